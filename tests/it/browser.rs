//! GTK in a browser: what somebody sees who opens the port of an image, and what comes of a click and of a typed word.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Used, long, root, run, tell, tool, uses, wait_until};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A display that `twostage run -p` publishes, and the lines that its programs write.
struct Display {
    child: Child,
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

#[derive(serde::Deserialize)]
struct Seen {
    windows: usize,
    /// Pixels that changed; none is known before the first step.
    #[serde(default)]
    changed: u64,
    /// Whether the display went away.
    ended: bool,
}

impl Display {
    fn of(project: &Project, words: &[&str]) -> Display {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its own").port();
        let publish = format!("{port}:8080");
        let mut command = project.command(&[&["run", "-p", &publish, &project.image], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for output in outputs {
            let seen = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    seen.lock().expect("the lines").push(line);
                }
            });
        }
        let display = Display { child, port, lines };
        wait_until("the display's port is open", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        display
    }

    /// What a person does there, and what the page tells after each step.
    fn browse(&self, steps: &[&str]) -> Vec<Seen> {
        let tool = root().join("tests/tools/browse.py");
        let done = run(Command::new(tool).arg(format!("http://127.0.0.1:{}/", self.port)).args(steps)).ok();
        println!("{}", done.out);
        done.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[track_caller]
    fn says(&self, line: &str) {
        let said = || self.lines.lock().expect("the lines").iter().any(|said| said == line);
        wait_until(&format!("the program says {line:?}: {:?}", self.lines.lock().expect("the lines")), said);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A PNG of some colours.
fn is_picture(path: &Path) -> bool {
    fs::read(path).is_ok_and(|picture| picture.starts_with(b"\x89PNG") && picture.len() > 4000)
}

/// What the project's image has of X11, xcb and Wayland, by a reader of layers that shares no code with us.
fn display_files(project: &Project) -> (bool, String) {
    let image = match project.on {
        On::Docker => project.join("saved.tar"),
        On::Embedded(_) => project.join(&format!(".twostage/images:{}", project.image)),
    };
    if project.on == On::Docker {
        project.on.save(&project.image, &image);
    }
    let checker = root().join("tests/tools/display_files.py").to_string_lossy().into_owned();
    let done = tool("python3", &[&checker, &image.to_string_lossy(), "--packages"]);
    assert!(done.status <= 1 && done.out.contains(" finding(s)"), "{}{}", done.out, done.err);
    (done.status == 0, done.out)
}

/// The distribution's own GTK has a Broadway, too. Its image has X11 and Wayland as well, which the checker must see.
#[test]
fn a_browser_shows_a_gtk_program_which_gets_what_is_clicked_and_typed_there() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_on(EMBEDDED, Family::Deb, "browser");
    let start = root().join("examples/broadway/start-broadway");
    fs::copy(start, project.join("start-broadway")).expect("the example's");
    project.edit("twostage.toml", |text| {
        let (components, _) = text.split_once("[runtime.").expect("an image");
        format!(
            "{components}[runtime.{}]\npackages = [\"libgtk-3-bin\", \"yad\", \"tini\", \"fonts-dejavu-core\"]\nslim = true\n\
             provides = [\"gsettings-backend\"]\n\
             user = {{ name = \"app\", uid = 1000 }}\nenv = {{ LANG = \"C.UTF-8\", GDK_BACKEND = \"broadway\" }}\n\
             files = {{ \"/usr/bin/start-broadway\" = {{ source = \"start-broadway\", mode = \"0755\" }} }}\n\
             entrypoint = [\"tini\", \"--\", \"start-broadway\"]\nexpose = [8080]\n\
             check = [\"start-broadway\", \"gtk-query-settings\", \"gtk-theme-name\"]\n",
            project.image
        )
    });
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let (clean, told) = display_files(&project);
    assert!(
        !clean && told.contains("/libX11.so.6") && told.contains(": libwayland-client.so.0") && told.contains("package libxcb1 "),
        "{told}"
    );

    // A form with an entry and a box to tick; what was entered is printed when its second button is clicked.
    let form = "yad --form --width=400 --height=200 --title=Form --field=Text --field=Tick:CHK; exec sleep 600";
    let display = Display::of(&project, &["sh", "-c", form]);
    let shot = project.join("browser.png");
    let shoot = format!("shot={}", shot.display());
    let seen = display.browse(&["windows=1", "click=200,78", "type=hello", "click=40,112", &shoot, "click=-65,-60"]);
    assert!(is_picture(&shot));
    let changed: Vec<u64> = seen.iter().map(|seen| seen.changed).collect();
    let [_, focused, typed, ticked, rested, _] = changed[..] else { panic!("{changed:?}") };
    assert!(focused > 100 && typed > 50 && ticked > 20 && rested < 100, "{changed:?}");
    display.says("hello|TRUE|");
}

/// A missing browser fails the tests above, and is no reason to leave them out.
#[test]
fn without_a_browser_the_tool_says_what_to_install() {
    let tool = root().join("tests/tools/browse.py");
    let done = run(Command::new("/usr/bin/python3").arg(tool).arg("http://127.0.0.1:1/").env("PATH", "/nowhere")).fails_with(1);
    done.says("there is no chromium: apt-get install").says("chromium-driver python3-selenium");
}

#[test]
fn the_example_of_a_desktop_in_a_browser_has_no_x11_and_works() {
    if !long() {
        return;
    }
    uses(Used::Engine);
    uses(Used::Apt);
    let mut project = Project::broadway("desktop");
    project.run(&["repo"]).ok();
    project.run(&["runtime"]).ok();
    let (clean, told) = display_files(&project);
    assert!(clean, "{told}");
    let size = told.lines().find(|line| line.starts_with("above the base")).expect("the sum");
    tell(&format!("the image of examples/broadway, {size}"));

    let display = Display::of(&project, &[]);
    display.says("ready");
    // Its third button starts a calculator, whose buttons are 6, *, 7, = and the one that closes it.
    let shot = format!("shot={}", project.join("browser.png").display());
    let buttons = ["click=191,299", "click=255,299", "click=61,259", "click=321,358"];
    let seen = display.browse(&[&["windows=1", "click=300,90", "windows=2"], &buttons[..], &[&shot, "click=-45,40"]].concat());
    display.says("started galculator.desktop");
    assert!(is_picture(&project.join("browser.png")));
    let [_, _, opened, six, _, seven, product, _, closed] = &seen[..] else { panic!("{} steps", seen.len()) };
    assert_eq!((opened.windows, product.windows, closed.windows), (2, 2, 1));
    assert!([six, seven, product].iter().all(|seen| seen.changed > 100), "the calculator shows what is pressed");
    // The display is there when a program has ended, and for the next browser.
    let seen = display.browse(&["windows=1", "click=200,165", "type=hello", "press=ENTER"]);
    display.says("said hello");
    assert!(seen[2].changed > 50 && seen[3].changed > 50 && !closed.ended && !seen[3].ended);
    let desktop = run(&mut project.command(&["run", &project.image, "id", "-u"])).ok();
    assert_eq!(desktop.out, "1000\n");

    // The same packages become an image on Docker, with the same files.
    project.on = On::Docker;
    project.run(&["runtime"]).ok();
    let (clean, by_docker) = display_files(&project);
    assert!(clean && by_docker.contains(size), "{by_docker}");
}
