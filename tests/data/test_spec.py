"""The grammar of --data: names, paths of all systems, options."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicv.data import DataError, open_dataset, write_png
from minicv.data.spec import OPTION, Spec, parse_spec


@pytest.mark.parametrize(("text", "name", "path", "options"), [
    ("cells", "cells", "", {}),
    ("cells,count=5,seed=1", "cells", "", {"count": "5", "seed": "1"}),
    ("voc:DIR,val=0.2,seed=0", "voc", "DIR", {"val": "0.2", "seed": "0"}),
    ("voc:C:\\data\\my set,val=0.2", "voc", "C:\\data\\my set", {"val": "0.2"}),
    ("voc:C:/data/a,b,val=.2", "voc", "C:/data/a,b", {"val": ".2"}),
    ("voc:\\\\server\\share", "voc", "\\\\server\\share", {}),
    ("voc:/a:b/c", "voc", "/a:b/c", {}),
    ("voc:/a,b=c/d", "voc", "/a,b=c/d", {}),  # not at the end
    ("voc:/a,b=c/", "voc", "/a,b=c/", {}),  # a folder that is named like an option
    ("voc:/a,b=c/,val=0.1", "voc", "/a,b=c/", {"val": "0.1"}),
    ("voc:a=b", "voc", "a=b", {}),
    ("voc:DIR, val=0.2", "voc", "DIR", {"val": "0.2"}),
    ("voc:DIR,val", "voc", "DIR,val", {}),
    ("my.sets:open_mine,size=8", "my.sets", "open_mine", {"size": "8"}),
    ("voc:DIR,val=", "voc", "DIR", {"val": ""}),
])
def test_parts(text, name, path, options):
    assert parse_spec(text) == (name, path, options)


@given(st.text("ab:/\\,. ", max_size=12).filter(lambda path: not OPTION.search(path)),
       st.dictionaries(st.sampled_from(["val", "test", "seed"]), st.text("0123.", min_size=1, max_size=4)))
def test_a_spec_is_read_as_it_is_written(path, options):
    assert parse_spec(str(Spec("voc", path, options))) == ("voc", path, options)


@pytest.mark.parametrize(("spec", "message"), [
    ("voc:DIR,val=0.2,val=0.3", "voc:DIR,val=0.2,val=0.3: the option val is given twice"),
    ("voc:DIR,vall=0.2", "voc has no option vall; did you mean val?"),
    ("voc:DIR,val=2", "val=2: must be a share of the images, from 0 to below 1, such as 0.2"),
    ("voc:DIR,val=x", "val=x: must be a share of the images"),
    ("voc:DIR,val=nan", "val=nan: must be a share of the images"),
    ("voc:DIR,seed=-1", "seed=-1: must be a whole number, 0 or more"),
    ("masks:DIR,upright=maybe", "upright=maybe: must be yes or no"),
    ("cells,count=many", "count=many: must be a whole number"),
    ("camvid:DIR,val=0.2", "camvid takes no options, got val=0.2"),
    ("DIR,val=0.2", "unknown data set 'DIR'"),
])
def test_errors(spec, message):
    with pytest.raises(ValueError) as error:
        open_dataset(spec)
    assert str(error.value).startswith(message)


def test_options_of_generated_images():
    dataset = open_dataset("cells,count=3,size=32,seed=7")
    assert len(dataset) == 3 and dataset[0].image.shape == (1, 32, 32)
    np.testing.assert_array_equal(dataset[0].image, open_dataset("cells", count=3, size=32, seed=7)[0].image)


def test_a_comma_where_no_option_is(tmp_path):
    with pytest.raises(DataError, match=r"DIR,0\.2: no such folder; an option is written as ,NAME=VALUE"):
        open_dataset(f"masks:{tmp_path}/DIR,0.2")


def test_a_folder_with_commas_and_colons(tmp_path):
    root = tmp_path / "a:b,c,val=1"
    for name in "abcd":
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_png(root / folder / f"{name}.png", np.eye(4, dtype=np.uint8))
    assert len(open_dataset(f"masks:{root}/,val=0.25,test=0")) == 3
