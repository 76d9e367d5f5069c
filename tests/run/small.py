"""A setting in which a whole run ends in seconds."""

SMALL = [
    "evaluate.limit=24", "evaluate.after_step=12", "evaluate.batch_size=8", "also=[]",
    "evaluate.robust={limit: 8, corruptions: [noise, jpeg]}",
    "evaluate.max_new_tokens=3", "measure.repeats=3", "measure.batch_size=2", "measure.efficiency=false",
    "calibrate.num_samples=8", "threads=1",
]  # fmt: skip
