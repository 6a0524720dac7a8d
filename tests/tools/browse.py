#!/usr/bin/python3
"""Looks at a Broadway display with headless Chromium, and uses it: browse.py URL STEP...

A window is a canvas of the page; steps go to the topmost one. They wait until what is seen no longer changes, and print
what changed, as a line of JSON: {"step": …, "windows": N, "places": [[left, top, width, height], …], "changed": PIXELS,
"box": [left, top, right, bottom], "ended": whether the display went away}.

    size=W,H           makes the page so large
    moving=1           from here on steps wait three seconds instead, as some windows are never at rest
    windows=N          waits until there are N windows
    click=X,Y          presses and releases the button at this place of the window; less than 0 is from its right or bottom
    type=TEXT          types
    press=NAME         presses a key by its name, such as ENTER
    raise=N            clicks on the title of the Nth window that was opened
    move=N,X,Y         moves it there by its title
    shot=FILE          saves the page as a PNG

Debian's chromium, chromium-driver and python3-selenium (so the interpreter is Debian's, too).
"""
import base64
import json
import shutil
import sys
import tempfile
import time

INSTALL = "apt-get install --no-install-recommends chromium chromium-driver python3-selenium"
try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.mouse_button import MouseButton
    from selenium.webdriver.common.keys import Keys
except ImportError:
    sys.exit(f"browse.py: there is no selenium for {sys.executable}: {INSTALL}")

SECONDS = 60
# Pixels of a text cursor that blinks.
CURSOR = 40
WIDTH, HEIGHT = 1120, 700

# The windows, in the order in which they were opened. (Tooltips and menus are none.)
WINDOWS = """
return [...document.querySelectorAll('canvas')].filter(c => c.style.visibility === 'visible' && !c.surface.isTemp)
    .map(c => ({left: c.offsetLeft, top: c.offsetTop, width: c.width, height: c.height, z: +c.style.zIndex || 0}));
"""
# How many pixels of two pictures of the page differ, and between which sides.
DIFFERENCE = """
const [first, second, done] = arguments;
const pixels = async data => {
    const image = new Image();
    image.src = 'data:image/png;base64,' + data;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height);
};
Promise.all([pixels(first), pixels(second)]).then(([a, b]) => {
    const one = new Uint32Array(a.data.buffer), two = new Uint32Array(b.data.buffer);
    let changed = 0, box = [a.width, a.height, 0, 0];
    for (let at = 0; at < one.length; at++) if (one[at] !== two[at]) {
        const x = at % a.width, y = Math.floor(at / a.width);
        changed++;
        box = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x + 1), Math.max(box[3], y + 1)];
    }
    done({changed, box});
});
"""


def browser(folder):
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            sys.exit(f"browse.py: there is no {program}: {INSTALL}")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # (Root has no sandbox; the page is our own.)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
                     "--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-background-networking",
                     f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={folder}"):
        options.add_argument(argument)
    return webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)


class Display:
    def __init__(self, driver, url):
        self.driver, self.moving = driver, False
        self.resize(WIDTH, HEIGHT)
        # A display that ends says so in a dialog, for which the browser would wait.
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": "window.alert = () => { window.ended = true; }"})
        driver.get(url)

    def resize(self, width, height):
        """The size of the page, not of the window around it."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.seen = None

    def windows(self):
        return self.driver.execute_script(WINDOWS)

    def top(self):
        return max(self.windows(), key=lambda window: window["z"])

    def picture(self):
        return self.driver.get_screenshot_as_base64()

    def difference(self, before, after):
        return self.driver.execute_async_script(DIFFERENCE, before, after)

    def quiet(self, answers):
        """A picture of the page after a step; `answers`: the program should show something for it, but it may be slow."""
        if self.moving:
            time.sleep(3)
            return self.picture()
        end = time.monotonic() + SECONDS / 4
        while answers and self.seen and time.monotonic() < end:
            if self.difference(self.seen, self.picture())["changed"] > CURSOR:
                break
            time.sleep(0.1)
        return self.at_rest()

    def at_rest(self):
        """A picture of the page once it has stayed as it is for a while; a text cursor may blink."""
        end, last, since = time.monotonic() + SECONDS, self.picture(), time.monotonic()
        while time.monotonic() < end:
            time.sleep(0.2)
            now = self.picture()
            if self.difference(last, now)["changed"] > CURSOR:
                since = time.monotonic()
            elif time.monotonic() - since >= 1:
                return now
            last = now
        sys.exit("browse.py: the page does not come to rest")

    def click(self, x, y, to=None):
        action = ActionBuilder(self.driver)
        action.pointer_action.move_to_location(x, y).pointer_down(MouseButton.LEFT)
        if to:
            action.pointer_action.move_to_location((x + to[0]) // 2, (y + to[1]) // 2).move_to_location(*to)
        action.pointer_action.pointer_up(MouseButton.LEFT)
        action.perform()

    def step(self, word):
        name, _, value = word.partition("=")
        if name == "size":
            self.resize(*(int(number) for number in value.split(",")))
        elif name == "moving":
            self.moving = True
        elif name == "windows":
            end = time.monotonic() + SECONDS
            while len(self.windows()) < int(value):
                if time.monotonic() > end:
                    sys.exit(f"browse.py: there are {len(self.windows())} windows, not {value}: {self.windows()}")
                time.sleep(0.1)
        elif name == "click":
            x, y = (int(number) for number in value.split(","))
            window = self.top()
            self.click(window["left"] + x + (window["width"] if x < 0 else 0), window["top"] + y + (window["height"] if y < 0 else 0))
        elif name in ("raise", "move"):
            number, *place = (int(number) for number in value.split(","))
            window = self.windows()[number - 1]
            # The title is in the upper part, behind a shadow that is part of the window; what is in its middle may be buttons.
            x, y = window["left"] + min(90, window["width"] // 3), window["top"] + 40
            self.click(x, y, (x + place[0] - window["left"], y + place[1] - window["top"]) if place else None)
        elif name == "type":
            for key in value:
                ActionChains(self.driver).send_keys(key).perform()
        elif name == "press":
            ActionChains(self.driver).send_keys(getattr(Keys, value)).perform()
        elif name != "shot":
            sys.exit(f"browse.py: {word} is no step")
        now = self.quiet(answers=name in ("click", "type", "press", "move"))
        if name == "shot":
            with open(value, "wb") as file:
                file.write(base64.b64decode(now))
        windows = self.windows()
        said = {"step": word, "windows": len(windows), "places": [[w[k] for k in ("left", "top", "width", "height")] for w in windows]}
        said["ended"] = self.driver.execute_script("return window.ended === true")
        if self.seen is not None:
            said.update(self.difference(self.seen, now))
        self.seen = now
        print(json.dumps(said), flush=True)


def main():
    url, *steps = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        driver = browser(folder)
        try:
            display = Display(driver, url)
            for step in steps:
                display.step(step)
        finally:
            driver.quit()


main()
