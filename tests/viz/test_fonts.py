"""Names in any script: a font that has their letters, or the class's number; never an empty box."""
import shutil
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image, ImageDraw

from minicv.detection import Detections
from minicv.viz import (
    draw_boxes,
    draw_confusion_matrix,
    fonts,
    render_detections,
    render_segmentation,
    segmentation_sheet,
)

KOREAN, UNKNOWN = "세포", "\U000119a0"  # the second in no font of any system here: Nandinagari


@pytest.fixture(autouse=True)
def fresh():
    """What was found, and what was warned of, is forgotten."""
    def clear():
        for cached in (fonts.installed, fonts.characters, fonts.fonts_for, fonts.warn):
            cached.cache_clear()
    clear()
    yield
    clear()
    plt.close("all")


@pytest.fixture
def fake_font(tmp_path, monkeypatch):
    """A system with one font, a copy of matplotlib's Latin italics, which is said to have Korean letters, too."""
    path = tmp_path / "Fake-Italic.ttf"
    shutil.copy(fonts.default_font().replace("DejaVuSans.ttf", "DejaVuSans-Oblique.ttf"), path)
    monkeypatch.setattr(fonts, "installed", cached(lambda: (str(path),)))
    real = fonts.characters
    monkeypatch.setattr(fonts, "characters", cached(
        lambda file: real(file) | set(KOREAN) if file == str(path) else real(file)))
    return str(path)


def cached(function):
    function.cache_clear = lambda: None
    return function


def no_font(monkeypatch):
    monkeypatch.setattr(fonts, "installed", cached(lambda: ()))


def detection(name):
    found = Detections(np.array([[5, 40, 60, 60]], np.float32), np.array([0.9], np.float32), np.array([0]))
    return render_detections(np.zeros((3, 100, 100), np.float32), found, [name, "other"], 4)


def test_a_font_that_has_the_letters_is_taken(fake_font):
    assert fonts.fonts_for("cell") == (fonts.default_font(),)
    assert fonts.fonts_for(KOREAN) == fonts.fonts_for(f"1 {KOREAN} nucleus") == (fonts.default_font(), fake_font)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts.legible(["cell", KOREAN]) == ["cell", KOREAN]
    text = plt.figure().text(0, 0, KOREAN)
    fonts.set_fonts(text.figure)
    assert text.get_fontfamily() == ["DejaVu Sans", "DejaVu Sans"]  # the fake's own name


def test_without_a_font_one_warning_names_the_package_and_numbers_stand_for_names(monkeypatch):
    no_font(monkeypatch)
    with pytest.warns(UserWarning, match=r"no installed font has the letters 세 포: class numbers are drawn in place "
                                         r"of such names; install .*apt-get install fonts-nanum\)") as caught:
        assert fonts.legible(["cell", KOREAN]) == ["cell", "class 1"] == fonts.legible(["cell", KOREAN])
    assert len(caught) == 1
    for name, package in (("猫", "fonts-noto-cjk"), ("ネコ", "fonts-noto-cjk"), ("🐕", "fonts-symbola"),
                          ("बिल्ली", "fonts-noto-core")):
        with pytest.warns(UserWarning, match=package):
            assert fonts.legible([name]) == ["class 0"]


def test_images_and_figures_without_a_font_show_numbers_not_boxes(monkeypatch):
    no_font(monkeypatch)
    with pytest.warns(UserWarning, match="fonts-nanum"):
        np.testing.assert_array_equal(detection(KOREAN), detection("class 0"))
    image, labels = np.zeros((3, 40, 60), np.float32), np.zeros((40, 60), int)
    np.testing.assert_array_equal(*(render_segmentation(image, labels, [name, "b"]) for name in (KOREAN, "class 0")))
    figure = segmentation_sheet([image], {"truth": [labels]}, [KOREAN, "b"])
    assert figure.legends[0].get_texts()[0].get_text() == "0 class 0"
    ax = draw_confusion_matrix(np.eye(2), [KOREAN, "b"])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["class 0", "b"]
    ax = plt.figure().gca()
    draw_boxes(ax, np.array([[0, 0, 5, 5]]), [0], [f"{KOREAN} 0.5"])
    assert ax.texts[0].get_text() == "?? 0.5"


def test_accents_greek_cyrillic_hebrew_and_arabic_need_no_font(monkeypatch):
    no_font(monkeypatch)
    names = ["Zürich", "crème brûlée", "Ελλάδα", "Кошка", "אדום", "سيارة", "naïve e\u0301", "a\u200bb"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts.legible(names) == names
    drawn = [detection(name).tobytes() for name in names]
    assert len(set(drawn)) == len(names)


def test_the_glyphs_are_drawn_where_a_font_is_installed():
    if not fonts.fonts_for("세포猫犬"):
        pytest.skip("no installed font has Korean and Chinese letters")
    drawn = [detection(name).tobytes() for name in ("세포", "막대", "猫", "犬", "class 0")]
    assert len(set(drawn)) == 5
    figure = segmentation_sheet([np.zeros((3, 40, 60))], {"t": [np.zeros((40, 60), int)]}, ["세포", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that its font lacks
        figure.canvas.draw()


def test_right_to_left():
    assert fonts.visual("cell 3") == "cell 3" and fonts.visual("אבג") == "גבא"
    assert fonts.visual("אב 12") == "12 בא"  # numbers keep their order
    # seen, yeh, alef, reh, teh marbuta: initial, medial, final (joins no letter after it), isolated, isolated
    assert fonts.visual("سيارة") == "\ufe93\ufead\ufe8e\ufef4\ufeb3"


def test_a_text_of_several_fonts_is_as_wide_as_it_is_drawn(fake_font):
    image = Image.new("L", (300, 40))
    fonts.draw_text(ImageDraw.Draw(image), (5, 4), "Float16Safe text", 20, 255)
    columns = np.flatnonzero(np.asarray(image).any(axis=0))
    rows = np.flatnonzero(np.asarray(image).any(axis=1))
    width, height = fonts.text_size("Float16Safe text", 20)
    assert abs(columns[-1] - columns[0] - width) < 5 and rows[0] >= 4 and rows[-1] < 4 + height
