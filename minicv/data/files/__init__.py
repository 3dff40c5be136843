"""Reading and writing files: images, text, JSON, XML, run-length encoded masks. Each fault is one ``DataError``."""
