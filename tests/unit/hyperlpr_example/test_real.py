"""Real plates from folders named in three ways, with files that are not what they should be."""

from __future__ import annotations

import pytest
from PIL import Image

from hyperlpr_example.ccpd import read_name
from hyperlpr_example.real import is_held_out, read_folder
from supervisor.core.errors import UserError

CCPD = "025-95_113-20&10_60&24-60&24_20&24_20&10_60&10-0_0_22_27_27_33_16-37-15"


def picture(path, size=(94, 24), colour=(10, 20, 200)):
    Image.new("RGB", size, colour).save(path)


def test_labels_csv_gives_the_texts_in_its_order(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(
        "\ufefffile,text,source\nb.png,皖A12345,x\na.png,苏BD12345,y\n", encoding="utf-8"
    )
    plates = read_folder(tmp_path)
    assert (plates.files, plates.texts, plates.bad) == (["b.png", "a.png"], ["皖A12345", "苏BD12345"], [])


def test_pictures_become_40_by_160_with_blue_first(tmp_path):
    picture(tmp_path / "皖A12345.png")
    pictures = read_folder(tmp_path).pictures
    assert pictures.shape == (1, 3, 40, 160)
    assert pictures[0, :, 20, 80].tolist() == [200, 20, 10]


@pytest.mark.parametrize("name", ["皖A12345", "皖A12345_2", "007-皖A12345", "皖A·12345", "皖a12345 front"])
def test_a_plate_text_in_the_file_name_is_found(tmp_path, name):
    picture(tmp_path / f"{name}.png")
    assert read_folder(tmp_path).texts == ["皖A12345"]


@pytest.mark.parametrize(
    "text", ["粤Z1234港", "京A1234警", "使014578", "军A12345", "民航12345", "苏AD12345", "皖A1234学"]
)
def test_unusual_plates_are_found_in_file_names_too(tmp_path, text):
    picture(tmp_path / f"{text}.png")
    assert read_folder(tmp_path).texts == [text]


def test_a_ccpd_photograph_is_cut_to_its_plate(tmp_path):
    photograph = Image.new("RGB", (100, 50), (0, 255, 0))
    photograph.paste((255, 0, 0), (20, 10, 60, 24))
    photograph.save(tmp_path / f"{CCPD}.png")
    plates = read_folder(tmp_path)
    assert plates.texts == ["皖AY339S"]
    assert (plates.pictures[0, 2] == 255).all()
    assert (plates.pictures[0, 1] == 0).all()


def test_a_ccpd_name_on_a_picture_that_is_cut_already_keeps_the_whole_picture(tmp_path):
    picture(tmp_path / f"{CCPD}.png", size=(40, 14))
    assert (read_folder(tmp_path).pictures[0, 0] == 200).all()


def test_a_green_ccpd_plate_has_eight_characters():
    name = "0036-91_265-311&485_406&524-406&524_314&520_311&485_402&487-0_0_3_25_24_24_24_32-91-2"
    assert read_name(name) == ("皖AD10008", (311, 485, 406, 524))


def test_a_name_that_is_not_ccpds_is_left_to_the_others():
    assert read_name("皖A12345") is None


def test_files_that_cannot_be_used_are_named_with_a_reason_and_the_rest_is_read(tmp_path):
    for name in ("good", "no_letter_i", "too_short"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "labels.csv").write_text(
        "file,text\ngood.png,皖A12345\nbroken.png,皖A12346\nmissing.png,皖A12347\nno_letter_i.png,皖AI2345\ntoo_short.png,皖A1\n",
        encoding="utf-8",
    )
    plates = read_folder(tmp_path)
    assert plates.texts == ["皖A12345"]
    reasons = dict(plates.bad)
    assert list(reasons) == ["broken.png", "missing.png", "no_letter_i.png", "too_short.png"]
    assert "'I' is not among" in reasons["no_letter_i.png"]
    assert "3 characters" in reasons["too_short.png"]


def test_a_ccpd_number_outside_its_table_is_bad_not_fatal(tmp_path):
    picture(tmp_path / "皖A12345.png")
    picture(tmp_path / f"{CCPD.replace('0_0_22', '99_0_22')}.png")
    plates = read_folder(tmp_path)
    assert len(plates.texts) == len(plates.bad) == 1


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_a_folder_without_plates_is_an_error_of_two_lines(tmp_path, make):
    folder = tmp_path / "plates"
    make(folder)
    with pytest.raises(UserError) as caught:
        read_folder(folder)
    assert str(folder) in caught.value.what
    assert caught.value.hint


def test_labels_without_the_needed_columns_are_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("name;plate\na;b\n")
    with pytest.raises(UserError, match="no columns file,text"):
        read_folder(tmp_path)


def test_no_plate_text_is_in_both_parts_and_every_picture_is_in_one(tmp_path):
    rows = []
    for index in range(60):
        picture(tmp_path / f"{index}.png", colour=(index, 0, 0))
        rows.append(f"{index}.png,皖A{index // 2:05d}")  # two pictures of each plate
    (tmp_path / "labels.csv").write_text("file,text\n" + "\n".join(rows), encoding="utf-8")
    plates = read_folder(tmp_path)
    learned, judged = plates.part(held_out=False), plates.part(held_out=True)
    assert not set(learned.texts) & set(judged.texts)
    assert sorted(learned.files + judged.files) == sorted(plates.files)
    assert len(learned.texts) == len(learned.pictures)
    assert judged.pictures[0, 2, 0, 0] == int(judged.files[0].removesuffix(".png"))


def test_about_a_fifth_is_held_out_and_always_the_same_fifth():
    held_out = [is_held_out(f"皖A{index:05d}") for index in range(5000)]
    assert 0.18 < sum(held_out) / len(held_out) < 0.22
    assert [index for index in range(12) if held_out[index]] == [3]


def test_too_few_plates_to_hold_some_out_are_an_error_of_two_lines(tmp_path):
    picture(tmp_path / "皖A00000.png")
    plates = read_folder(tmp_path)
    assert plates.part(held_out=False).texts == ["皖A00000"]
    with pytest.raises(UserError, match="none of the 1 plates"):
        plates.part(held_out=True)
