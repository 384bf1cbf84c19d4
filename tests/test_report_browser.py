"""The page in a real browser: it draws, zooms and toggles, and asks for nothing."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.image import imread

from molpool_calc.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Done by the page itself after it has drawn: what a user does by hand.
ACTIONS = """
<script>
const found = {}, chart = document.getElementById("spectrum").chart;
const { plot } = chart, frame = plot.getBoundingClientRect();
const point = (type, share, more) => plot.dispatchEvent(new (type === "wheel" ?
  WheelEvent : PointerEvent)(type, { clientX: frame.left + share * frame.width,
  clientY: frame.top + 100, button: 0, pointerId: 1, bubbles: true, cancelable: true,
  ...more }));
plot.setPointerCapture = () => {};
const layers = () =>
  [...plot.querySelectorAll("[data-layer]")].map((group) => group.dataset.layer);
found.whole = [...chart.view];
point("pointerdown", 0.3); point("pointermove", 0.4); point("pointerup", 0.5);
found.dragged = [...chart.view];
point("wheel", 0.4, { deltaY: -100 });
found.wheeled = [...chart.view];
point("pointermove", 0.4);
found.reading = document.querySelector("#spectrum .reading").textContent;
document.querySelector("#spectrum .reset").click();
found.reset = [...chart.view];
found.layers = layers();
document.querySelectorAll("#spectrum .legend button").forEach((each) => each.click());
found.hidden = layers();
plot.dispatchEvent(new KeyboardEvent("keydown", { key: "+" }));
found.keyed = [...chart.view];
found.series = document.querySelectorAll("#series svg path.curve").length;
found.canvas = document.querySelectorAll("#viewer-stage canvas").length;
document.documentElement.dataset.found = JSON.stringify(found);
</script>
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "run"
    words = ["ir", "formaldehyde", "--picoseconds", "0.2", "--replicas", "4"]
    more = ["--equilibration-ps", "0.05", "--compile", "never", "--out", str(folder)]
    assert main([*words, *more]) == 0
    return folder / "report.html"


def browse(page: Path, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    quiet = ("no-first-run", "background-networking", "component-update", "sync")
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-quic", "--no-first-run"),
        *(f"--disable-{name}" for name in quiet[1:]),
        *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
        *("--enable-logging=stderr", "--window-size=1280,1000"),
        *("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000"),
        *(f"--user-data-dir={place / 'profile'}", *options, page.as_uri()),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_page_draws_zooms_and_toggles_without_an_error(
    page: Path, tmp_path: Path
) -> None:
    acting = page.with_name("acting.html")
    text = page.read_text(encoding="utf-8")
    acting.write_text(text.replace("</body>", f"{ACTIONS}</body>"), encoding="utf-8")
    done = browse(acting, tmp_path, "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    stated = re.search(r'data-found="([^"]*)"', done.stdout)
    assert stated is not None, done.stderr
    found = json.loads(stated[1].replace("&quot;", '"').replace("&amp;", "&"))
    (low, high), (start, end) = found["whole"], found["dragged"]
    assert low == 0.0 < start < end < high
    assert end - start == pytest.approx(0.2 * (high - low), rel=0.15)
    wheeled = found["wheeled"]
    assert wheeled[1] - wheeled[0] == pytest.approx(0.8 * (end - start))
    assert "cm⁻¹ · dynamics" in found["reading"]
    assert found["reset"] == found["whole"]
    assert {"95 % band", "dynamics", "harmonic", "labels"} <= set(found["layers"])
    assert found["hidden"] == []
    assert found["keyed"][1] - found["keyed"][0] == pytest.approx(0.8 * (high - low))
    assert found["series"] == 3 * 4
    assert found["canvas"] >= 1


def test_the_page_makes_no_request(page: Path, tmp_path: Path) -> None:
    """The browser itself looks for updates; a request of a page has an initiator."""
    log = tmp_path / "net.json"
    browse(page, tmp_path, "--dump-dom", f"--log-net-log={log}")
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    known = [
        event["params"] for event in events if "initiator" in event.get("params", {})
    ]
    asked = [each["url"] for each in known if each["initiator"] != "not an origin"]
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_the_browser_shows_is_not_blank(
    page: Path, tmp_path: Path, scheme: str
) -> None:
    picture = tmp_path / "page.png"
    dark = ["--blink-settings=preferredColorScheme=0"] * (scheme == "dark")
    browse(page, tmp_path, f"--screenshot={picture}", *dark)
    pixels = imread(picture)
    assert pixels.shape[1] == 1280
    light = pixels[..., :3].min(axis=2) > 0.5
    assert 0.005 < (light if dark else ~light).mean() < 0.5
