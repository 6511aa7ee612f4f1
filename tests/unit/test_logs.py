from noisetransfer.logs import device_of, devices, tell_device


def test_the_device_that_a_log_tells_is_read(tmp_path, capsys):
    tell_device("NVIDIA H100 80GB HBM3")
    told = capsys.readouterr().err
    (tmp_path / "0.log").write_text(f"a warning before\n{told}testing: 100%\n")
    assert device_of(tmp_path / "0.log") == "NVIDIA H100 80GB HBM3"


def test_a_log_may_tell_none_or_be_missing(tmp_path):
    (tmp_path / "0.log").write_bytes(b"computes nothing \xff\n")
    assert device_of(tmp_path / "0.log") is None
    assert device_of(tmp_path / "1.log") is None


def test_jobs_are_counted_by_device(tmp_path):
    for name, text in {
        "a/0": "computes on: H100\n",
        "a/1": "computes on: H100\n",
        "b": "x",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.log").write_text(text)
    (tmp_path / "c.log").write_text("computes on: CPU\n")
    assert devices(tmp_path) == {"CPU": 1, "H100": 2}
