"""What the scripts share. They put this folder on their path themselves, so that nothing of Trimtab is imported."""
