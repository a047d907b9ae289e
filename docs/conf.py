"""How the site is built: make docs. Its reference pages are written from the code, see reference_pages.py."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Tutorials type the commands that a user would, with the python that builds the site.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["COLUMNS"] = "100"

from ptychofno import __version__  # noqa: E402

project = "ptychofno"
author = "The ptychofno developers"
copyright = author
version = release = __version__

extensions = ["myst_nb", "reference_pages"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_execution_raise_on_error = True

html_theme = "pydata_sphinx_theme"
html_title = "ptychofno"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 4,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without pages below them have no list of these.
_ALONE = ("index", "start", "own_scan", "comparisons", "extending", "physics", "metrics", "questions")
html_sidebars: dict[str, list[str]] = {page: [] for page in _ALONE}
html_show_sourcelink = False
