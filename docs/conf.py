"""Sphinx's settings. ``sphinx-build -W docs docs/_build/html`` runs every lesson; with ``-t quick`` two, in seconds.

Nothing is loaded from the network, neither while building nor by the pages: formulas become MathML here, and the theme
brings its own fonts and scripts. Search works from the file system.
"""
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
QUICK = tags.has("quick")  # noqa: F821  # Sphinx defines it
os.environ["MINICV_LESSONS_OUT"] = "out/quick" if QUICK else "out"  # a lesson runs in its own folder
if QUICK:
    os.environ["MINICV_QUICK"] = "1"

import minicv  # noqa: E402

project, author, copyright = "minicv", "the minicv authors", "the minicv authors, MIT license"
version = release = minicv.__version__
extensions = ["myst_parser", "sphinx_gallery.gen_gallery", "pages"]
exclude_patterns = ["_build", "**/sg_execution_times.rst"]
default_role = "code"
suppress_warnings = ["config.cache"]  # the settings of the gallery hold functions, which cannot be compared
nitpick_ignore_regex = []
toc_object_entries = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "minicv"
html_show_sourcelink = html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it would fetch pages, which browsers refuse on file://
html_math_renderer = "mathml"  # pages.py
html_static_path = ["static"]
html_css_files = ["minicv.css"]
templates_path: list[str] = []

sphinx_gallery_conf = {
    "examples_dirs": "../lessons",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/(00|03)_" if QUICK else r"/\d\d_",  # which are run; all become pages
    "ignore_pattern": r"/(?!\d\d_)[^/]*\.py",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("minicv",),
    "reference_url": {"minicv": None},  # names in the code lead to their API pages
    "abort_on_example_error": not QUICK,
    "download_all_examples": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "plot_gallery": True,
    "min_reported_time": 1,
    "remove_config_comments": True,
    "copyfile_regex": r"GALLERY_HEADER\.rst",
}
