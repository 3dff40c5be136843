"""minicv predict on whatever people have: every image that can be predicted is, and each other one is one line."""
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import minicv
from minicv import models
from minicv.cli import main as cli
from minicv.data import Cells, read_image, read_label
from minicv.data.files.images import as_float, read_stored
from minicv.data.files.rle import decode_rle
from minicv.data.readers.voc_segmentation import palette
from minicv.detection import Detections
from minicv.models.detection.yolo import YOLO
from minicv.training import save_checkpoint
from minicv.viz import render_legend

EXIF = 0x0112
# How an upright image (H, W, ...) is stored under each orientation, by the meaning of the tag: which sides of it are
# the stored one's first row and first column
STORED = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
          5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[::-1], 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
          8: lambda a: a.swapaxes(0, 1)[:, ::-1]}


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    minicv.seed(0)
    path = tmp_path_factory.mktemp("unet") / "model.safetensors"
    save_checkpoint(path, models.build("unet", width=2, depth=1), classes=["membrane", "cell"])
    return path


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    minicv.seed(0)
    path = tmp_path_factory.mktemp("rgb") / "model.safetensors"
    save_checkpoint(path, models.build("unet", width=2, depth=1, in_channels=3))
    return path


@pytest.fixture
def predict(capfd, tmp_path):
    """Run ``minicv predict`` into ``tmp_path / "out"``: its code, the lines of the images, those of its errors."""
    def run(checkpoint, *arguments, out=tmp_path / "out"):
        code = cli.main(["predict", "--checkpoint", str(checkpoint), "--out", str(out), *map(str, arguments)])
        text = capfd.readouterr()
        assert "Traceback" not in text.err
        return code, [line for line in text.out.splitlines() if " pixels" in line], text.err.splitlines()
    return run


def cells(height=20, width=30, seed=0):
    return (Cells(1, (height, width), seed)[0].image[0] * 255).astype(np.uint8)


def save(path, array, **options):
    Image.fromarray(np.ascontiguousarray(array)).save(path, **options)
    return path


# -------------------------------------------------------------------------------------------------------- what is said

def test_the_names_of_the_classes_are_the_checkpoints(unet, rgb, predict, tmp_path):
    path = save(tmp_path / "a.png", cells())
    code, (line,), errors = predict(unet, path)
    share = np.mean(read_label(tmp_path / "out" / "a_labels.png") == 1)
    assert (code, errors) == (0, [])
    assert line == (f"{tmp_path / 'out' / 'a_overlay.png'}  (30 x 20 pixels)  membrane: {1 - share:.1%}  "
                    f"cell: {share:.1%}")
    assert " class 0: " in predict(rgb, path)[1][0]  # a checkpoint that names none


@pytest.mark.parametrize("name", ["세포", "細胞 1", "a\udcff", "x" * 200, "-a", "a.b", "%s{}"])
def test_any_name_of_a_file(unet, predict, tmp_path, name):
    path, other = tmp_path / f"{name}.png", save(tmp_path / "plain.png", cells())
    try:
        save(path, cells())
    except (OSError, ValueError):
        pytest.skip("this file system does not take the name")
    code, lines, errors = predict(unet, path, other)
    assert (code, len(lines), errors) == (0, 2, [])
    assert len(os.listdir(tmp_path / "out")) == 6  # with the legend


def test_more_than_256_classes(predict, tmp_path):
    minicv.seed(0)
    model = models.build("unet", width=2, depth=1, num_classes=300)
    model.head.bias.data[299] = 1e3
    save_checkpoint(tmp_path / "many.safetensors", model)
    assert predict(tmp_path / "many.safetensors", save(tmp_path / "a.png", cells()))[0] == 0
    assert (read_label(tmp_path / "out" / "a_labels.png") == 299).all()


# -------------------------------------------------------------------------------------------------------- orientations

@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_predicted_upright(unet, predict, tmp_path, orientation):
    upright = cells(20, 31)
    stored = STORED[orientation](upright)
    exif = Image.Exif()
    exif[EXIF] = orientation
    path, plain = save(tmp_path / "a.png", stored, exif=exif), save(tmp_path / "plain.png", upright)
    code, lines, _ = predict(unet, path, plain)
    turned = f", upright by EXIF orientation {orientation}" if orientation != 1 else ""
    assert code == 0 and f"(31 x 20 pixels{turned})" in lines[0]
    for end in ("labels", "overlay"):
        a, b = (read_image(tmp_path / "out" / f"{name}_{end}.png", "RGB") for name in ("a", "plain"))
        np.testing.assert_array_equal(a, b)
    assert read_label(tmp_path / "out" / "a_labels.png").shape == (20, 31)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_and_masks_lie_in_the_upright_image(predict, monkeypatch, tmp_path, orientation):
    """A detector that finds the one bright rectangle."""
    def find(self, images, proposals=None, batch=1, score=None):
        mask = images[0][0] > 0.5
        y, x = np.nonzero(mask)
        box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
        return [Detections(box, np.ones(1, np.float32), np.zeros(1, int), mask[None])]
    monkeypatch.setattr(YOLO, "predict", find)
    save_checkpoint(tmp_path / "yolo.safetensors", models.build("yolo", layers="3x4 max", image_size=24, num_classes=1),
                    classes=["cell"])
    upright = np.zeros((20, 31, 3), np.uint8)
    upright[3:9, 5:25] = 255
    exif = Image.Exif()
    exif[EXIF] = orientation
    path = save(tmp_path / "a.tif", STORED[orientation](upright), exif=exif)
    code, (line,), errors = predict(tmp_path / "yolo.safetensors", path)
    assert (code, errors) == (0, []) and "(31 x 20 pixels" in line and line.endswith("  cell: 1")
    (image,) = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
    (found,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (image["width"], image["height"], found["bbox"]) == (31, 20, [5, 3, 20, 6])
    np.testing.assert_array_equal(decode_rle(found["segmentation"]), upright[..., 0] > 0)


def test_nothing_found_is_said(predict, tmp_path):
    minicv.seed(0)
    save_checkpoint(tmp_path / "yolo.safetensors", models.build("yolo", layers="3x4 max", image_size=24, num_classes=1))
    path = save(tmp_path / "a.png", cells())
    code, (line,), _ = predict(tmp_path / "yolo.safetensors", path, "--score", "2")
    assert code == 0 and line.endswith("(30 x 20 pixels)  nothing with a score of 2 or more")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []


# ------------------------------------------------------------------------------------------------- pixels of all kinds

def test_sixteen_bits_are_kept_as_in_training(unet, predict, tmp_path):
    """A dark image of a 12-bit camera: 8 bits would leave 16 gray levels, and other labels."""
    fine = (Cells(1, (40, 60))[0].image[0] * 4095).astype(np.uint16)
    path = save(tmp_path / "a.png", fine)
    read = read_image(path)
    assert len(np.unique(read)) > 500
    assert predict(unet, path)[0] == 0
    expected = minicv.training.load_checkpoint(unet)[0].predict([fine[None] / np.float32(65535)])[0].labels
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "a_labels.png"), expected)
    np.testing.assert_array_equal(read, as_float(read_stored(path, "L")))  # what data sets hold


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_images_of_every_mode_for_gray_and_color_networks(unet, rgb, predict, tmp_path, mode):
    image = Image.fromarray(cells())
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    for checkpoint in (unet, rgb):
        code, lines, errors = predict(checkpoint, path)
        assert (code, len(lines), errors) == (0, 1, [])


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 2), (2, 900)])
@pytest.mark.parametrize("name", ["unet", "fcn8s", "deconvnet", "pspnet", "deeplabv3plus", "yolo", "faster_rcnn",
                                  "mask_rcnn"])
def test_images_of_any_size(predict, tmp_path, name, size):
    minicv.seed(0)
    small = {"min_size": 32, "max_size": 48} if "rcnn" in name else {}
    save_checkpoint(tmp_path / "m.safetensors", models.build(name, num_classes=2, **small))
    path = save(tmp_path / "a.png", np.full((*size, 3), 99, np.uint8))
    code, lines, errors = predict(tmp_path / "m.safetensors", path)
    assert (code, len(lines), errors) == (0, 1, [])
    assert f"({size[1]} x {size[0]} pixels)" in lines[0]


# --------------------------------------------------------------------------------------------------- what does not work

def test_bad_images_do_not_end_it_and_are_named_at_the_end(unet, predict, tmp_path):
    good, last = save(tmp_path / "good.png", cells()), save(tmp_path / "last.png", cells())
    (tmp_path / "damaged.png").write_bytes(good.read_bytes()[:-30])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "folder").mkdir()
    bad = [tmp_path / name for name in ("folder", "missing.png", "damaged.png", "text.jpg")]
    code, lines, errors = predict(unet, bad[1], good, *bad[2:], bad[0], last)
    assert code == 1 and [line.split("_overlay")[0] for line in lines] == [
        str(tmp_path / "out" / "good"), str(tmp_path / "out" / "last")]
    assert len(errors) == 5
    for path, error in zip(bad, errors, strict=False):
        assert error.startswith(f"minicv predict: {path}: ")
    assert "no image file in this folder" in errors[0]  # folders come first
    assert errors[4] == f"minicv predict: 4 of 6 images could not be predicted: {', '.join(map(str, bad))}"


def test_a_folder_stands_for_its_images(unet, predict, tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "c.tif", "._c.tif"):
        save(folder / name, cells())
    (folder / "notes.txt").write_text("mine")
    save(folder / "deeper" / "d.png", cells())
    code, lines, errors = predict(unet, folder, save(tmp_path / "e.png", cells()))
    assert (code, errors) == (0, []) and [line.split("_overlay")[0][-1] for line in lines] == ["a", "b", "c", "e"]
    (folder / "b.png").write_bytes(b"damaged")
    code, lines, errors = predict(unet, folder)
    assert code == 1 and len(lines) == 2
    assert errors[1] == f"minicv predict: 1 of 3 images could not be predicted: {folder / 'b.png'}"


def test_a_stack_stands_for_its_pages(unet, predict, tmp_path):
    pages = [Image.fromarray(cells(seed=n)) for n in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    code, lines, errors = predict(unet, tmp_path / "stack.tif")
    assert (code, errors) == (0, []) and [line.split("_overlay")[0] for line in lines] == [
        str(tmp_path / "out" / f"stack-{n}") for n in range(3)]
    network = minicv.training.load_checkpoint(unet)[0]
    for n, page in enumerate(pages):
        expected = network.predict([np.asarray(page)[None] / np.float32(255)])[0].labels
        np.testing.assert_array_equal(read_label(tmp_path / "out" / f"stack-{n}_labels.png"), expected)
    code, _, (error,) = predict(unet, tmp_path / "stack.tif", save(tmp_path / "stack-1.png", cells()))
    assert code == 2 and error.startswith(f"minicv predict: {tmp_path / 'stack.tif'}, page 1 and ")


def test_labels_are_palette_images_with_a_legend(unet, predict, tmp_path):
    """The values are the classes; a viewer shows VOC's colors, 0 black and 1 dark red, and the legend names them."""
    assert predict(unet, save(tmp_path / "a.png", cells()))[0] == 0
    with Image.open(tmp_path / "out" / "a_labels.png") as labels:
        assert labels.mode == "P" and labels.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
        values = np.asarray(labels)
    expected = minicv.training.load_checkpoint(unet)[0].predict([read_image(tmp_path / "a.png")])[0].labels
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "a_labels.png"), expected)
    assert (tmp_path / "out" / "legend.txt").read_text() == "membrane 0 0 0\ncell 128 0 0\n"
    legend = read_image(tmp_path / "out" / "legend.png", "RGB")
    np.testing.assert_array_equal(legend, render_legend(["membrane", "cell"], palette()).transpose(2, 0, 1)
                                  / np.float32(255))


def test_predicted_labels_are_a_data_set_of_masks(unet, predict, tmp_path):
    """With the legend beside them: to correct them by hand, and to train on them."""
    path = save(tmp_path / "a.png", cells())
    assert predict(unet, path)[0] == 0
    for folder, file in (("images", path), ("masks", tmp_path / "out" / "a_labels.png")):
        (tmp_path / "set" / folder).mkdir(parents=True)
        shutil.copy(file, tmp_path / "set" / folder / "a.png")
    shutil.copy(tmp_path / "out" / "legend.txt", tmp_path / "set")
    dataset = minicv.data.open_dataset(f"masks:{tmp_path / 'set'},val=0,test=0")
    assert dataset.class_names == ("membrane", "cell")
    np.testing.assert_array_equal(dataset[0].label, read_label(tmp_path / "out" / "a_labels.png"))


def test_results_of_the_images_so_far_are_kept(predict, monkeypatch, tmp_path):
    """Ctrl-C in the second image: the files of all images hold the first."""
    def find(self, images, proposals=None, batch=1, score=None):
        if images[0].shape[1] > 20:
            raise KeyboardInterrupt
        return [Detections(np.array([[1, 2, 4, 6]], np.float32), np.ones(1, np.float32), np.zeros(1, int))]
    monkeypatch.setattr(YOLO, "predict", find)
    save_checkpoint(tmp_path / "yolo.safetensors", models.build("yolo", layers="3x4 max", image_size=24, num_classes=1))
    code, _, _ = predict(tmp_path / "yolo.safetensors", save(tmp_path / "a.png", cells()),
                         save(tmp_path / "b.png", cells(24)))
    assert code == 130 and len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1


def test_an_image_too_large_for_the_memory_does_not_end_it(unet, predict, monkeypatch, tmp_path):
    real = models.model_class("unet").predict

    def predict_small(self, images, **options):
        if any(image.size > 800 for image in images):
            raise MemoryError("Unable to allocate 8 PiB")
        return real(self, images, **options)
    monkeypatch.setattr(models.model_class("unet"), "predict", predict_small)
    large, small = save(tmp_path / "large.png", cells(40, 40)), save(tmp_path / "small.png", cells())
    code, lines, errors = predict(unet, large, small)
    assert code == 1 and len(lines) == 1
    assert errors[0] == f"minicv predict: {large}: not enough memory (Unable to allocate 8 PiB)"


def test_a_fault_of_the_program_is_not_taken_for_a_bad_image(unet, predict, monkeypatch, tmp_path):
    monkeypatch.setattr(models.model_class("unet"), "forward", lambda self, x: [][0])
    with pytest.raises(IndexError):
        predict(unet, save(tmp_path / "a.png", cells()))


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("x/a.png", "y/a.png"), ("a.png", "a.png")])
def test_results_of_one_name(unet, predict, tmp_path, names):
    paths = []
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        paths.append(save(tmp_path / name, cells()))
    code, lines, (error,) = predict(unet, *paths)
    assert (code, lines) == (2, []) and not (tmp_path / "out").exists()
    assert error == (f"minicv predict: {paths[0]} and {paths[1]}: both results would be named "
                     f"{tmp_path / 'out' / 'a_overlay.png'}; predict them into different folders")


def test_results_never_replace_images(unet, predict, tmp_path):
    image, result = save(tmp_path / "a.png", cells()), save(tmp_path / "a_labels.png", cells())
    before = result.read_bytes()
    code, _, (error,) = predict(unet, image, result, out=tmp_path)
    assert code == 2 and result.read_bytes() == before
    assert error == (f"minicv predict: {result}: would be overwritten by a result of {image}; choose another --out, or "
                     "leave out earlier results")
    assert predict(unet, image, out=tmp_path)[0] == 0  # of this call's images none is in the way


def test_the_files_of_all_images_never_replace_images(unet, predict, tmp_path):
    image = save(tmp_path / "legend.png", cells())
    code, _, (error,) = predict(unet, image, out=tmp_path)
    assert code == 2 and error == (f"minicv predict: {image}: would be overwritten by a result of all images; choose "
                                   "another --out, or leave out earlier results")


def test_folders_that_cannot_be_written(unet, predict, monkeypatch, tmp_path):
    image, file = save(tmp_path / "a.png", cells()), tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "deeper"):
        code, _, (error,) = predict(unet, image, out=out)
        assert code == 2 and error == f"minicv predict: --out {out}: {file} is a file, not a folder"
    assert file.read_text() == "mine"
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    code, _, (error,) = predict(unet, image)
    assert code == 2 and error == f"minicv predict: --out {tmp_path / 'out'}: {tmp_path} cannot be written"
    assert not (tmp_path / "out").exists()
