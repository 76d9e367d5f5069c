"""Corruptions of pictures: each a frozen dataclass of one ``severity`` that makes a picture and a seed a picture."""
