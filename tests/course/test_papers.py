"""The paper index: references are read as they are meant, all have the right form, and none is missing."""
import re

import pytest

from minicv.cli import main as cli
from minicv.course import papers
from minicv.course.papers import PACKAGE, PAPERS, find, index, named, read
from minicv.models import MODELS


def places(source, file="minicv/ops/some.py"):
    references, problems = read(source, file)
    return [(r.paper, r.where, r.function, r.line) for r in references], [p.text for p in problems]


def test_a_comment_is_a_reference_of_the_function_around_it():
    source = '''class A:
    def forward(x):
        y = x  # U-Net, eq. (2)
        return y
'''
    assert places(source) == ([("unet", "eq. (2)", "A.forward", 3)], [])
    assert read(source, "minicv/ops/some.py")[0][0].text == "y = x # U-Net, eq. (2)"


@pytest.mark.parametrize(("text", "found"), [
    ("Fast R-CNN, sec. 2.3, and R-CNN, app. C", [("fast_rcnn", "sec. 2.3"), ("rcnn", "app. C")]),
    ("U-Net's augmentation, sec. 3.1", [("unet", "sec. 3.1")]),
    ("R-CNN (Girshick et al., 2014, sec. 2.3 and app. B, C)",
     [("rcnn", "sec. 2.3"), ("rcnn", "app. B"), ("rcnn", "app. C")]),
    ("SPPNet, eqs. (1), (3)", [("sppnet", "eq. (1)"), ("sppnet", "eq. (3)")]),
    ("SPPNet, eqs. (1) to (3)", [("sppnet", "eq. (1)"), ("sppnet", "eq. (2)"), ("sppnet", "eq. (3)")]),
    ("Dumoulin and Visin, figures 4.1 to 4.3", [("conv_arithmetic", f"Fig. 4.{i}") for i in (1, 2, 3)]),
    ("ResNet, table 1, 50 layers", [("resnet", "Table 1")]),  # one table; the 50 is no table
    ("He et al. (2015), eq. (10)", [("he_init", "eq. (10)")]),
    ("He et al., ECCV 2014, sec. 3", [("sppnet", "sec. 3")]),
    ("Mask\n    R-CNN, sec. 3", [("mask_rcnn", "sec. 3")]),  # over a line's end
    ("DeepLabv3+, Fig. 2", [("deeplabv3plus", "Fig. 2")]),
    ("DeepLabv3, Fig. 2", [("deeplabv3", "Fig. 2")]),
    ("Unlike U-Net. The weights, sec. 2, are", [("yolo", "sec. 2")]),  # another sentence: the module's paper
    ("unlike U-Net; eq. (2)", [("yolo", "eq. (2)")]),
    ("a row of U-Net's      eq. (2)", [("yolo", "eq. (2)")]),  # another column
])
def test_which_paper_and_place(text, found):
    source = f'"""YOLO, not U-Net."""\ndef f():\n    """{text}"""\n'
    got, problems = places(source)
    assert [(paper, where) for paper, where, *_ in got] == found and problems == []


@pytest.mark.parametrize("text", [
    "U-Net, eq. 2", "U-Net, equation (2)", "U-Net, section 3", "U-Net, §3", "U-Net, sec 3", "R-CNN, appendix C",
    "U-Net, eqn. (2)", "U-Net, fig 1", "Tab. 1", "Alg. 1",
])
def test_a_wrong_form_is_a_problem(text):
    got, problems = places(f"# {text}\n")
    assert got == [] and len(problems) == 1


def test_an_unknown_paper_is_a_problem():
    assert places("# Nobody and Others, eq. (3)\n") == ([], ["Nobody and Others, eq. (3)"])
    assert places("# eq. (3)\n") == ([], ["eq. (3)"])  # no paper in the comment, none in the docstring


def test_the_text_of_strings_is_no_reference():
    assert places('x = "U-Net, eq. (2)"\n') == ([], [])


def test_every_reference_in_the_code_has_the_right_form():
    _, problems = index()
    assert [f"{p.file}:{p.line}: {p.text}: {p.reason}" for p in problems] == []


def test_names_of_papers_are_not_used_twice():
    names = [name for paper in PAPERS.values() for name in paper.names]
    assert len(set(names)) == len(names)
    for paper in PAPERS.values():
        assert re.search(r'"[^"]+[.?]?".* (19|20)\d\d', paper.citation), paper.citation


@pytest.mark.parametrize(("paper", "where", "file"), [
    ("selective_search", "sec. 3.2", "minicv/detection/selective_search.py"),
    ("selective_search", "eq. (2)", "minicv/detection/selective_search.py"),
    ("rcnn", "sec. 2.3", "minicv/training/svm.py"),
    ("rcnn", "app. A", "minicv/models/detection/rcnn.py"),
    ("rcnn", "app. C", "minicv/detection/ridge.py"),
    *[("rcnn", f"eq. ({n})", "minicv/detection/boxes.py") for n in (1, 2, 3, 4, 6, 7, 8, 9)],
    ("sppnet", "app. A", "minicv/models/detection/sppnet.py"),
    ("sppnet", "sec. 2.3", "minicv/models/detection/sppnet.py"),
    ("fast_rcnn", "eq. (1)", "minicv/models/detection/roi_heads.py"),
    ("fast_rcnn", "eq. (3)", "minicv/ops/loss_elementwise.py"),
    ("fast_rcnn", "eq. (4)", "minicv/ops/roi.py"),
    ("fast_rcnn", "sec. 2.3", "minicv/models/detection/roi_heads.py"),
    ("fast_rcnn", "sec. 3.1", "minicv/models/detection/fast_rcnn.py"),
    ("faster_rcnn", "sec. 3.1.2", "minicv/detection/matching.py"),
    ("faster_rcnn", "eq. (1)", "minicv/models/detection/rpn.py"),
    ("faster_rcnn", "eq. (2)", "minicv/detection/boxes.py"),
    ("faster_rcnn", "sec. 3.2", "minicv/models/detection/faster_rcnn.py"),
    *[("yolo", f"eq. ({n})", "minicv/models/detection/yolo.py") for n in (1, 2, 3)],
    ("mask_rcnn", "sec. 3", "minicv/ops/roi.py"),
    ("mask_rcnn", "sec. 3", "minicv/models/detection/mask_rcnn.py"),
    ("fcn", "sec. 3.1", "minicv/models/segmentation/convolutionalize.py"),
    ("fcn", "sec. 3.2", "minicv/models/segmentation/shift_and_stitch.py"),
    ("fcn", "sec. 3.3", "minicv/ops/conv.py"),
    ("fcn", "sec. 3.4", "minicv/models/segmentation/patchwise.py"),
    ("fcn", "sec. 4.2", "minicv/models/segmentation/fcn.py"),
    ("fcn", "sec. 4.3", "minicv/models/segmentation/fcn.py"),
    ("fcn", "sec. 5", "minicv/metrics/segmentation.py"),
    ("deconvnet", "Fig. 3", "minicv/ops/unpool.py"),
    ("deconvnet", "sec. 4.2", "minicv/models/segmentation/deconvnet.py"),
    ("unet", "eq. (1)", "minicv/ops/loss.py"),
    ("unet", "eq. (2)", "minicv/data/weight_map.py"),
    ("unet", "Fig. 1", "minicv/models/segmentation/unet.py"),
    ("unet", "Fig. 2", "minicv/models/segmentation/base.py"),
    ("unet", "sec. 3", "minicv/nn/init.py"),
    ("unet", "sec. 3.1", "minicv/data/augment/unet.py"),
    ("unet", "Table 1", "minicv/metrics/rand_warping.py"),
    ("pspnet", "sec. 3.2", "minicv/models/segmentation/pspnet.py"),
    ("pspnet", "sec. 3.3", "minicv/models/segmentation/dilated.py"),
    ("pspnet", "Table 1", "minicv/models/segmentation/pspnet.py"),
    ("pspnet", "sec. 5.1", "minicv/optim.py"),
    ("deeplabv3", "sec. 3.2", "minicv/models/backbones/resnet.py"),
    ("deeplabv3", "sec. 3.3", "minicv/models/segmentation/deeplab.py"),
    ("deeplabv3plus", "Fig. 2", "minicv/models/segmentation/deeplab.py"),
    ("deeplabv3plus", "Fig. 4", "minicv/models/backbones/xception.py"),
    ("panoptic", "eq. (2)", "minicv/metrics/panoptic.py"),
    ("alexnet", "sec. 3.3", "minicv/ops/norm.py"),
    ("googlenet", "Table 1", "minicv/models/backbones/googlenet.py"),
    ("resnet", "eq. (1)", "minicv/models/backbones/resnet.py"),
    ("vgg", "Table 1", "minicv/models/backbones/vgg.py"),
    *[("selective_search", f"eq. ({n})", "minicv/detection/selective_search.py") for n in (1, 2, 3, 4, 5)],
    *[("graph_segmentation", f"eq. ({n})", "minicv/detection/graph_segmentation.py") for n in (1, 3, 4)],
    ("selective_search", "sec. 5", "minicv/metrics/detection.py"),
    ("rcnn", "sec. 2.2", "minicv/detection/nms.py"),
    ("sppnet", "sec. 2.2", "minicv/models/detection/sppnet.py"),
    ("fast_rcnn", "sec. 2.1", "minicv/ops/roi.py"),
    ("fast_rcnn", "eq. (2)", "minicv/models/detection/roi_heads.py"),
    ("fast_rcnn", "eq. (5)", "minicv/models/detection/fast_rcnn.py"),
    ("faster_rcnn", "Fig. 3", "minicv/models/detection/rpn.py"),
    ("faster_rcnn", "sec. 3.1.3", "minicv/detection/sampling.py"),
    ("yolo", "sec. 2", "minicv/models/detection/yolo.py"),
    ("mask_rcnn", "sec. 3.1", "minicv/models/detection/mask_rcnn.py"),
    ("ciresan", "Table 1", "minicv/models/segmentation/patchwise.py"),
    ("fcn", "sec. 4.1", "minicv/models/segmentation/fcn.py"),
    ("deconvnet", "sec. 3.2.1", "minicv/ops/unpool.py"),
    ("deconvnet", "sec. 3.2.2", "minicv/models/segmentation/deconvnet.py"),
    ("deconvnet", "sec. 4.1", "minicv/models/segmentation/deconvnet.py"),
    ("unet", "sec. 2", "minicv/models/segmentation/unet.py"),
    ("unet", "Table 2", "minicv/metrics/segmentation.py"),
    ("deeplabv3", "eq. (1)", "minicv/ops/conv.py"),
    ("deeplabv3", "sec. 3.1", "minicv/models/backbones/resnet.py"),
    ("deeplabv3", "Fig. 5", "minicv/models/segmentation/deeplab.py"),
    ("deeplabv3plus", "eq. (1)", "minicv/ops/conv.py"),
    ("deeplabv3plus", "sec. 3.1", "minicv/models/segmentation/deeplab.py"),
    ("xception", "Fig. 5", "minicv/models/backbones/xception.py"),
    ("mobilenets", "sec. 3.1", "lessons/02_receptive_field.py"),
    ("panoptic", "eq. (1)", "minicv/metrics/panoptic.py"),
    ("panoptic", "sec. 4.1", "minicv/metrics/panoptic.py"),
    ("conv_arithmetic", "sec. 4.1", "minicv/ops/conv.py"),
    ("conv_arithmetic", "sec. 4.6", "minicv/ops/conv.py"),
    ("batch_norm", "algorithm 1", "minicv/ops/norm.py"),
    ("voc", "sec. 4.2", "minicv/metrics/detection.py"),
    ("voc", "eq. (2)", "minicv/metrics/detection.py"),
    ("voc", "eq. (3)", "minicv/detection/boxes.py"),
    ("coco", "named", "minicv/metrics/detection.py"),  # its AP is defined by its code, not by the paper
    ("selective_search", "eq. (6)", "minicv/detection/selective_search.py"),
    ("selective_search", "eq. (7)", "minicv/metrics/detection.py"),
    ("faster_rcnn", "sec. 3.1.1", "minicv/detection/anchors.py"),
    ("faster_rcnn", "sec. 3.1.1", "minicv/models/detection/rpn.py"),
    ("faster_rcnn", "sec. 3.3", "minicv/models/detection/rpn.py"),
    ("mobilenets", "sec. 3.1", "minicv/models/backbones/xception.py"),
    ("deeplabv3plus", "sec. 4.1", "minicv/models/segmentation/deeplab.py"),  # 48 channels, two convolutions of 256
    ("deeplabv3plus", "Table 2", "minicv/models/segmentation/deeplab.py"),
    ("unet", "sec. 3.1", "minicv/models/segmentation/unet.py"),  # dropout
    ("araujo", "eq. (2)", "minicv/models/summary.py"),  # the receptive field
])
def test_what_the_papers_fix_is_found(paper, where, file):
    assert file in {r.file for r in index()[0] if (r.paper, r.where) == (paper, where)}


@pytest.mark.parametrize("module", sorted({path.split(":")[0] for path in MODELS.values()}))
def test_each_network_says_how_it_differs_from_its_paper(module):
    text = (PACKAGE / "models" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert re.search(r"[Dd]iffers\s+from\s+the\s+papers?", text)


def test_every_paper_is_referred_to():
    assert {r.paper for r in index()[0]} == set(PAPERS)


def test_a_paper_is_listed_where_it_is_named():
    source = '"""Boxes as in COCO, and U-Net, eq. (2)."""\ndef f():\n    pass  # COCO (2014) has crowds\n'
    found = [(r.paper, r.where, r.function, r.line) for r in named(source, "minicv/data/some.py")]
    assert found == [("coco", "named", "", 1), ("unet", "named", "", 1), ("coco", "named", "f", 3)]
    assert {r.where for r in index()[0] if r.paper == "coco"} == {"named"}
    assert "named" not in {r.where for r in index()[0] if r.paper == "unet"}  # it has places


@pytest.mark.parametrize(("name", "key"), [
    ("unet", "unet"), ("U-Net", "unet"), ("u-net", "unet"), ("resnet50", "resnet"), ("fcn8s", "fcn"), ("vgg16", "vgg"),
    ("DeepLabv3+", "deeplabv3plus"), ("deeplabv3plus", "deeplabv3plus"), ("Fast R-CNN", "fast_rcnn"),
    *[(name, None) for name in MODELS], ("fast_yolo", "yolo"),
])
def test_papers_are_found_by_their_names_and_networks(name, key):
    assert find(name) == key if key else find(name) in PAPERS


def test_the_command_lists_the_places_of_a_paper(capsys):
    assert cli.main(["papers", "unet"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("O. Ronneberger, P. Fischer, T. Brox:")
    (line,) = [line for line in lines if "_equation_2" in line]
    path, number = re.search(r"(minicv/data/weight_map\.py):(\d+)", line).groups()
    assert "# U-Net, eq. (2)" in (PACKAGE.parent / path).read_text().splitlines()[int(number) - 1]


def test_a_line_is_cut_where_a_terminal_ends(capsys, monkeypatch):
    assert cli.main(["papers", "unet"]) == 0
    whole = capsys.readouterr().out.splitlines()
    assert max(map(len, whole)) > 100
    monkeypatch.setattr(cli.sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main(["papers", "unet"]) == 0
    assert capsys.readouterr().out.splitlines() == [line[:100] for line in whole]


def test_the_command_lists_the_papers(capsys):
    assert cli.main(["papers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PAPERS)
    assert re.search(r"^unet +\d\d places  O\. Ronneberger", "\n".join(lines), re.M)


def test_an_unknown_paper_is_wrong_input(capsys):
    assert cli.main(["papers", "transformer"]) == 2
    assert "minicv papers: no paper named 'transformer'; there are: adam," in capsys.readouterr().err
    assert cli.main(["papers", "unett"]) == 2
    assert capsys.readouterr().err == "minicv papers: no paper named 'unett'; did you mean unet?\n"


def test_a_paper_without_places_says_so(monkeypatch):
    monkeypatch.setattr(papers, "index", lambda: ((), ()))
    assert papers.table("unet").splitlines()[1] == "  nothing refers to it yet"
