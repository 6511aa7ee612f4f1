"""The report of the tiny study in a real browser: its numbers, keys, width, and who can read it."""

import shutil

import pandas as pd
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium (Debian: apt install chromium)"
)

PHONE = {"width": 320, "height": 640}
DESK = {"width": 1280, "height": 900}
PLOT, TOLD = ".plot", ".cell"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # no sandbox: it needs user namespaces, which containers lack
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(finished, browser):
    """The report, opened once; what its console said and what it asked for stand in `said` and `asked`."""
    page = browser.new_page(viewport=DESK)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto((finished[0].results / "report.html").as_uri(), timeout=120_000)
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    page.wait_for_selector(".plot .heatmaplayer image", state="attached")
    return page


@pytest.fixture
def desk(page):
    """The report on a desk. Each test chooses what it shows."""
    page.set_viewport_size(DESK)
    return page


@pytest.fixture
def phone(page):
    """The report on a narrow phone."""
    page.set_viewport_size(PHONE)
    return page


@pytest.fixture(scope="module")
def cell(finished):
    """A cell's row of the summary."""
    table = pd.read_parquet(finished[0].results / "tables/transfer_summary.parquet")

    def cell(arm, source, target):
        own = table[(table["arm"] == arm) & table["source"].isin([source, "any"])]
        (row,) = own[own["target"] == target].to_dict("records")
        return row

    return cell


def choose(page, **options):
    for name, label in options.items():
        page.select_option(f"select[name={name}]", label=label)


def hover(page, row, column):
    """Move the mouse to the middle of a cell, given as numbers of its row and column."""
    box = page.locator(".plot .nsewdrag").bounding_box()
    rows, columns = page.evaluate("""() => {
        const [trace] = document.querySelector('.plot').data; return [trace.y.length, trace.x.length]; }""")
    x = box["x"] + box["width"] * (column + 0.5) / columns
    y = box["y"] + box["height"] * (row + 0.5) / rows
    page.mouse.move(x - 3, y - 3)
    page.mouse.move(x, y, steps=3)


def written(cell, value):
    """A mean of a cell with its interval, as the page writes them."""
    numbers = [f"{cell[f'{value}{end}']:.3f}" for end in ("", "_low", "_high")]
    mean, low, high = (text.replace("0.", ".", 1).replace("-", "−") for text in numbers)
    return mean if low == "nan" else f"{mean} [{low}, {high}]"


@pytest.mark.parametrize(
    ("arm", "row", "column"),
    [("full", 1, 0), ("full", 0, 1), ("diagonal", 2, 1), ("identity", 2, 0)],
)
def test_hovering_tells_the_numbers_of_the_cell(desk, cell, arm, row, column):
    targets, sources = ["clean@0", "brightness@5", "pgd@0.1"], ["brightness@5", "pgd@0.1"]
    choose(desk, view=f"arm {arm}", measure="accuracy", order="by kind of modification")
    desk.mouse.move(0, 0)
    hover(desk, row, column)
    heading = desk.locator(f"{TOLD} h3", has_text=f"tested under {targets[row]}")
    heading.wait_for()
    assert heading.inner_text().startswith(f"{arm} noise")
    numbers = desk.locator(f"{TOLD} dd").all_inner_texts()
    own = cell(arm, sources[column], targets[row])
    assert numbers[0] == written(own, "accuracy")
    assert any(number.startswith(written(own, "gain_over_identity")) for number in numbers)
    assert numbers[-2:] == ["60", "2"]


def test_switching_the_measure_changes_the_numbers(desk, cell):
    choose(desk, view="arm full", measure="accuracy")
    before = desk.locator(".explorer table").text_content()
    choose(desk, measure="gain in accuracy over no noise")
    after = desk.locator(".explorer td").nth(2).text_content()
    assert desk.locator(".explorer table").text_content() != before
    own = cell("full", "brightness@5", "brightness@5")
    assert after == written(own, "gain_over_none")
    shown = desk.evaluate("document.querySelector('.plot').data[0].z[1][0]")
    assert shown == pytest.approx(own["gain_over_none"], abs=1e-4)


def test_a_target_shows_every_arm(desk, cell):
    choose(desk, view="pgd@0.1", measure="accuracy")
    rows = desk.locator(".explorer tr th[scope=row]").all_text_contents()
    assert rows == ["full", "diagonal", "rotated", "identity", "none"]
    first = desk.locator(".explorer td").first.text_content()
    assert first == written(cell("full", "brightness@5", "pgd@0.1"), "accuracy")


def test_sorting_puts_the_greatest_mean_first(desk):
    choose(desk, view="arm full", measure="accuracy", order="by mean, greatest first")
    means = desk.evaluate(
        "document.querySelector('.plot').data[0].z.map(row => row.reduce((a, b) => a + b) / row.length)"
    )
    assert means == sorted(means, reverse=True)
    choose(desk, order="clustered: alike together")
    assert desk.locator(".explorer tr th[scope=row]").count() == 3


def test_keys_lead_from_cell_to_cell(desk):
    choose(desk, view="arm full", measure="accuracy", order="by kind of modification")
    desk.locator("select[name=order]").first.focus()
    desk.keyboard.press("Tab")
    assert desk.evaluate("document.activeElement.className").startswith("plot")
    desk.keyboard.press("ArrowDown")
    desk.keyboard.press("ArrowDown")
    desk.keyboard.press("ArrowRight")
    assert (
        desk.locator(f"{TOLD} h3").inner_text()
        == "full noise of pgd@0.1, tested under brightness@5"
    )
    assert desk.locator(f"{TOLD} img").count() == 3  # clean, target, source
    desk.keyboard.press("ArrowRight")  # the edge holds
    assert desk.locator(f"{TOLD} h3").inner_text().startswith("full noise of pgd@0.1")


def test_a_table_is_downloaded_as_it_is(desk, finished):
    with desk.expect_download() as started:
        desk.get_by_role("button", name="Download transfer.csv").click()
    saved = started.value.path().read_bytes()
    assert saved == (finished[0].results / "tables/transfer.csv").read_bytes()


def test_a_narrow_phone_scrolls_only_downwards_and_a_tap_tells(phone):
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    choose(phone, view="arm rotated")
    phone.locator(".plot .nsewdrag").click()
    phone.locator(f"{TOLD} h3", has_text="rotated").wait_for()


def test_axe_finds_no_serious_fault(phone):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    phone.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = axe.Axe().run(phone).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == []


def test_on_paper_the_heatmap_and_its_table_are_there(desk):
    desk.evaluate("dispatchEvent(new Event('beforeprint'))")
    desk.emulate_media(media="print")
    assert desk.locator(".explorer table").is_visible()
    assert desk.locator(PLOT).is_visible()
    assert not desk.locator("select[name=view]").is_visible()
    desk.emulate_media(media="screen")


def test_all_that_went_on_in_silence_and_asked_nobody(page):
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("data:", "blob:"))] == [page.url]
