"""Sphinx: API pages from the docstrings, tutorials executed by sphinx-gallery, nothing from the network."""

import sys
from pathlib import Path

import matplotlib

import sj_lowlat

sys.path.insert(0, str(Path(__file__).parent))  # for the modules below that lie here

matplotlib.use("Agg")

project = "sj_lowlat"
author = "the sj_lowlat authors"
release = version = sj_lowlat.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
    "api_pages",
    "cli_reference",
    "data_way",
    "convertible",
    "methods_table",
    "export_graphs",
]
exclude_patterns = ["_build", "generated", "tutorials", "gallery/*.ipynb", "gallery/*.py"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "all"
# an override without a docstring of its own stays out, instead of showing SpikingJelly's or torch's
autodoc_inherit_docstrings = False

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),
    "image_scrapers": ("matplotlib", "figures_scraper.scrape"),
    "show_memory": False,
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"sj_lowlat {release}"
html_theme_options = {
    "show_prev_next": False,
    "icon_links": [],
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
}
copybutton_prompt_text = "$ "
html_sidebars = {"**": []}
html_static_path = ["_static"]
html_css_files = ["wide.css"]
