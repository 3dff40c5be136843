"""The command ``minicv``: ``main.py`` reads the arguments, and each group of commands has a file."""
