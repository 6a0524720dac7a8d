//! Built at other times, on other ports: the same layer.

use crate::support::{Project, Serving, Used, docker, root, tool, uses};
use std::fs;

/// What leaves caches, databases and links behind when it is installed.
const RICH: &str = "\"greet\", \"fontconfig\", \"dbus\", \"shared-mime-info\", \"ca-certificates\", \"python3-minimal\", \
                    \"libgtk-3-0\", \"adwaita-icon-theme\"";

/// An image that goes with its value.
struct Image(String);

impl Image {
    fn build(tag: &str, dockerfile: &str) -> Image {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
        docker(&["build", "--network=host", "--tag", tag, &folder.path().to_string_lossy()]).ok();
        Image(tag.to_string())
    }

    fn run(&self, command: &[&str]) -> String {
        docker(&[&["run", "--rm", "--network=none", &self.0], command].concat()).ok().out
    }

    fn saved(&self, project: &Project) -> String {
        let path = project.join(&format!("{}.tar", self.0)).to_string_lossy().into_owned();
        docker(&["save", "--output", &path, &self.0]).ok();
        path
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = docker(&["image", "rm", "--force", &self.0]);
    }
}

/// Every program in these bases sees another day: libfaketime answers whoever asks for the time.
/// What the kernel itself writes, the times of files, stays real (so it is told not to touch what
/// `stat` says); those differ between two builds anyway, by seconds. It is past days that are left
/// out: apt refuses metadata from the future.
#[test]
fn other_days_and_ports_give_the_same_layer_and_both_auditors_find_nothing_in_it() {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello("days");
    let text = project.read("twostage.toml").replace("[\"greet\"]", &format!("[{RICH}]"));
    let fake = Image::build(
        "twostage-test-days-base",
        &format!(
            "FROM {}\nRUN apt-get update && apt-get install --yes --no-install-recommends libfaketime && \
             rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* && echo 'Acquire::Check-Valid-Until \"false\";' > /etc/apt/apt.conf.d/day\n",
            project.base()
        ),
    );
    let mut built: Vec<(Image, Vec<String>, i64)> = Vec::new();
    for days in [40, 400] {
        let base = Image::build(
            &format!("twostage-test-days-base{days}"),
            &format!(
                "FROM {}\nENV NO_FAKE_STAT=1\nRUN echo '+{days}d' > /etc/faketimerc; \
                 find /usr/lib -name libfaketime.so.1 > /etc/ld.so.preload\n",
                fake.0
            ),
        );
        project.write("twostage.toml", &text.replace("packages = ", &format!("base = {{ image = \"{}\" }}\npackages = ", base.0)));
        project.run(&["repo"]).ok();
        project.run(&["runtime", "--no-cache"]).ok();
        let image = Image(format!("twostage-test-days{days}"));
        docker(&["tag", &project.image, &image.0]).ok();
        let day = image.run(&["date", "+%s"]).trim().parse::<i64>().expect("seconds") / 86_400;
        built.push((image, project.diff_ids(), day));
        drop(base);
    }
    let [(one, first, early), (two, second, late)] = &built[..] else { panic!("two images") };
    assert_eq!(late - early, 360, "the two were built on other days");
    assert!(first.len() == 4 && second.len() == 4 && first[2] != second[2], "three layers of two bases, one on top: {first:?} {second:?}");
    let saved = [one.saved(&project), two.saved(&project)];
    let differ = root().join("tests/tools/diff_layers.py").to_string_lossy().into_owned();
    tool("python3", &[&differ, &saved[0], &saved[1]]).ok();
    assert_eq!(first[3], second[3]);

    // The checker that shares no code with our audit; `runtime` itself has audited both.
    let serving = Serving::of(project.path());
    let key = project.join("public.asc").to_string_lossy().into_owned();
    fs::write(&key, serving.get("/key.asc")).expect("the key");
    let checker = root().join("tests/tools/check_image.py").to_string_lossy().into_owned();
    let checked = tool("python3", &[&checker, &saved[1], "3", "--key", &key, "--forbid", &serving.address]).ok();
    assert_eq!(checked.last_line(), "checked 1 layer(s) above the base: 0 finding(s)");
    let seen = two.run(&["sh", "-c", "greet; fc-match sans > /dev/null && echo fonts; python3 -c 'print(6 * 7)'"]);
    assert_eq!(seen, "Hello, world!\nfonts\n42\n", "it works, too");
}
