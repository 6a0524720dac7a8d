use super::*;

const HEAD: &str = "[project]\nname = \"demo\"\n[base]\nbootstrap = \"debian:bookworm\"\n";

fn noble() -> Result<Release> {
    "ubuntu:noble".parse()
}

fn refuse(rest: &str) -> String {
    match Project::parse(&format!("{HEAD}{rest}"), "twostage.toml", &noble) {
        Ok(_) => "taken".to_string(),
        Err(error) => format!("{error} | {}", error.hint_text().unwrap_or("no hint")),
    }
}

#[test]
fn a_whole_project_is_read() {
    let text = r#"
[project]
name = "demo"
format = "deb"
architectures = ["amd64"]
[base]
image = "debian:bookworm"
[[component]]
name = "libgreet"
source = "libgreet"
[[component]]
name = "greet"
source = { git = "https://example.org/greet.git", revision = "0123456789abcdef0123456789abcdef01234567" }
needs = ["libgreet"]
options = ["nocheck"]
[[component]]
name = "hello"
source = { distribution = "hello" }
patches = ["patches/hello.patch"]
[[component]]
name = "tools"
source = "tools"
dockerfile = "builder.Dockerfile"
packages = "/packages"
[repository]
channel = "testing"
listen = "127.0.0.1:9999"
[runtime.demo]
packages = ["greet"]
user = { name = "app", uid = 1234 }
cmd = ["greet"]
env = { LANG = "C.UTF-8" }
expose = [8080, "53/udp"]
labels = { "org.example.team" = "one" }
files = { "/etc/greet.conf" = "greet.conf", "/usr/bin/run" = { source = "run.sh", mode = "0755" } }
slim = true
"#;
    let project = Project::parse(text, "twostage.toml", &noble).expect("it is right");
    assert_eq!(project.components.len(), 4);
    assert_eq!(project.components[1].needs[0], At { line: 14, value: "libgreet".into() });
    let image = &project.images["demo"];
    assert_eq!(image.expose, ["8080", "53/udp"]);
    assert_eq!(image.files["/usr/bin/run"].mode, 0o755);
    assert_eq!(image.user, Some(User { name: "app".into(), uid: 1234, says_uid: true }));
    assert_eq!(project.repository.channel, "testing");
    let paths: Vec<String> = project.paths().into_iter().map(|(path, _)| path.value).collect();
    assert!(paths.contains(&"libgreet/debian/control".to_string()), "{paths:?}");
}

#[test]
fn an_unknown_key_names_line_and_near_miss() {
    assert_eq!(
        refuse("[[component]]\nname = \"greet\"\nsource = \"greet\"\nneed = [\"x\"]\n"),
        "twostage.toml:8: unknown key `need` | write `needs`"
    );
    assert!(refuse("[runtime.demo]\npackages = [\"greet\"]\nzzz = 1\n").contains("unknown key `zzz` | remove it; the keys here are base"));
    assert_eq!(
        refuse("[[component]]\nname = \"greet\"\nsource = { distributon = \"hello\" }\n"),
        "twostage.toml:7: unknown key `distributon` | write `distribution`"
    );
}

#[test]
fn a_wrong_type_names_line_and_the_edit() {
    let refused = refuse("[runtime.demo]\npackages = \"greet\"\n");
    assert_eq!(refused, "twostage.toml:6: invalid type: string \"greet\", expected a sequence | write a list: [\"…\"]");
    let refused = refuse("[[component]]\nname = 3\nsource = \"x\"\n");
    assert!(refused.starts_with("twostage.toml:6: invalid type: integer `3`, expected a string"), "{refused}");
    assert!(refused.ends_with("write it in quotes: \"…\""), "{refused}");
    assert!(refuse("[runtime.demo]\npackages = [\n").starts_with("twostage.toml:6"), "{}", refuse("[runtime.demo]\npackages = [\n"));
}

#[test]
fn a_missing_key_is_named() {
    let refused = refuse("[[component]]\nname = \"greet\"\n");
    assert!(refused.contains("the key `source` is missing | add `source = …` to this table"), "{refused}");
}

#[test]
fn a_circle_in_needs_is_shown_whole() {
    let component = |name: &str, needs: &str| format!("[[component]]\nname = \"{name}\"\nsource = \"{name}\"\nneeds = [\"{needs}\"]\n");
    let text = component("aa", "bb") + &component("bb", "cc") + &component("cc", "aa");
    assert_eq!(
        refuse(&text),
        "twostage.toml:16: components need each other in a circle: `aa` needs `bb` needs `cc` needs `aa` | remove `aa` from the `needs` of `cc`"
    );
    assert!(refuse(&component("aa", "aa")).contains("circle: `aa` needs `aa`"));
}

/// Neither the stack nor the time grows with the number of ways through them.
#[test]
fn many_components_in_a_row_and_in_diamonds_are_read() {
    let mut text = String::new();
    for number in 0..400 {
        let needs = (number.max(2) - 2..number).map(|need| format!("\"c{need}\"")).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("[[component]]\nname = \"c{number}\"\nsource = \"s\"\nneeds = [{needs}]\n"));
    }
    assert_eq!(refuse(&text), "taken");
}

#[test]
fn a_need_that_is_no_component_gets_the_near_miss() {
    let text =
        "[[component]]\nname = \"libgreet\"\nsource = \"l\"\n[[component]]\nname = \"greet\"\nsource = \"g\"\nneeds = [\"libgret\"]\n";
    assert_eq!(refuse(text), "twostage.toml:11: component `greet` needs `libgret`, which is no component | write `libgreet`");
}

#[test]
fn paths_that_leave_the_project_are_refused() {
    for source in ["/etc", "../other", "a/../../b", ""] {
        let refused = refuse(&format!("[[component]]\nname = \"greet\"\nsource = \"{source}\"\n"));
        assert!(refused.contains("is not a path below the project file's folder"), "{refused}");
    }
    assert!(
        refuse("[runtime.demo]\npackages = [\"greet\"]\nfiles = { \"/etc/../x\" = \"f\" }\n")
            .contains("is not an absolute path of the image")
    );
}

#[test]
fn a_password_in_a_url_is_refused_where_others_would_see_it_and_never_shown() {
    let source = |value: &str| refuse(&format!("[[component]]\nname = \"greet\"\nsource = {{ {value} }}\n"));
    let revision = format!("revision = \"{}\"", "1".repeat(40));
    assert_eq!(
        source(&format!("git = \"https://me:secret@host/greet.git\", {revision}")),
        "twostage.toml:7: `https://…@host/greet.git` has a password in it | write the URL without it: git asks its credential helper \
         (`git help credentials`)"
    );
    let refused = source(&format!("url = \"gopher://me:secret@host/greet.tar.gz\", sha256 = \"{}\"", "0".repeat(64)));
    assert!(refused.contains("`gopher://…@host/greet.tar.gz` is not an http, https or file URL"), "{refused}");
    let refused = refuse("mirrors = [\"deb http://me:secret@host/debian bookworm main\"]\n");
    assert!(refused.contains("the mirror `deb http://…@host/debian bookworm main` has a password in it"), "{refused}");
}

/// What each entry may be is told in `mirror.rs`, of URLs in `url.rs`.
#[test]
fn a_mirror_that_is_an_option_is_refused_with_its_line() {
    let mirrors = |value: &str| {
        let text = format!("[project]\nname = \"demo\"\n[base]\nbootstrap = \"debian:bookworm\"\nmirrors = {value}\n");
        let project = Project::parse(&text, "twostage.toml", &noble);
        project.map(|project| project.base.value).map_err(|error| format!("{error} | {}", error.hint_or_class()))
    };
    let refused = mirrors("[\"deb http://h/debian bookworm main\", \"--setup-hook=touch /x\"]").expect_err("an option");
    assert!(
        refused.starts_with("twostage.toml:3: the mirror `--setup-hook=touch /x` is not taken: it is neither a `deb` line nor"),
        "{refused}"
    );
    let refused = mirrors("[\"deb [trusted=yes] http://h/debian bookworm main\"]").expect_err("unsigned");
    assert!(refused.contains("`trusted` would let packages in that nobody has signed"), "{refused}");
    let taken = mirrors("[\"deb http://h/debian bookworm main\"]").expect("a mirror");
    let Base::Bootstrap { mirrors, .. } = taken else { panic!("{taken:?}") };
    assert_eq!(mirrors[0].to_string(), "deb http://h/debian bookworm main");
}

#[test]
fn a_source_that_names_a_program_or_an_option_is_refused() {
    let revision = format!("revision = \"{}\"", "1".repeat(40));
    for url in ["ext::sh -c touch% /x", "--upload-pack=touch /x", "ssh://-oProxyCommand=touch/x", "https://h/a\\nb"] {
        let refused = refuse(&format!("[[component]]\nname = \"greet\"\nsource = {{ git = \"{url}\", {revision} }}\n"));
        assert!(refused.starts_with("twostage.toml:7: `") && refused.contains("write it like"), "{url}: {refused}");
    }
    for folder in ["a\\nb", "a\\u001bb"] {
        let refused = refuse(&format!("[[component]]\nname = \"greet\"\nsource = \"{folder}\"\n"));
        assert!(refused.contains("is not a path below"), "{refused}");
    }
    let refused = refuse("[runtime.demo]\npackages = [\"greet\"]\n[runtime.demo.base]\nimage = \"debian\\nRUN touch /x\"\n");
    assert!(refused.contains("`debian\\nRUN touch /x` is not a name of an image"), "{refused}");
}

#[test]
fn what_a_dockerfile_would_not_get_is_refused() {
    let table = "[[component]]\nname = \"tools\"\nsource = \"tools\"\ndockerfile = \"Dockerfile\"\npackages = \"/packages\"\n";
    assert_eq!(
        refuse(&format!("{table}patches = [\"a.patch\"]\n")),
        "twostage.toml:10: `patches` is for native builds; component `tools` has a Dockerfile | remove `patches`, and let the Dockerfile do that"
    );
    assert!(refuse(&format!("{table}options = [\"nocheck\"]\n")).contains("twostage.toml:10: `options` is for native builds"));
    assert_eq!(refuse(table), "taken");
}

#[test]
fn values_that_could_break_out_of_a_dockerfile_line_are_refused() {
    for line in [
        "packages = [\"greet\"]\nenv = { LANG = \"C\\nRUN x\" }",
        "packages = [\"greet\"]\nlabels = { \"a b\" = \"c\" }",
        "packages = [\"greet; rm -rf /\"]",
        "packages = [\"greet\"]\ncmd = [\"a\\nb\"]",
        "packages = [\"greet\"]\nuser = \"root; x\"",
        "packages = [\"greet\"]\nexpose = [70000]",
        "packages = [\"greet\"]\nexpose = [\"+80\"]",
        "packages = [\"greet\"]\nlabels = { \"--x\" = \"c\" }",
        "packages = [\"greet\"]\nlabels = { a = \"c\\u0085d\" }",
        "packages = [\"greet-\"]",
    ] {
        let refused = refuse(&format!("[runtime.demo]\n{line}\n"));
        assert!(refused.starts_with("twostage.toml:"), "{line}: {refused}");
    }
}

#[test]
fn names_and_versions_follow_the_format_of_the_packages() {
    let text = |format: &str, name: &str| {
        format!("[project]\nname = \"demo\"\nformat = \"{format}\"\n[base]\nimage = \"x\"\n[runtime.demo]\npackages = [\"{name}\"]\n")
    };
    assert!(Project::parse(&text("rpm", "Perl_X"), "twostage.toml", &noble).is_ok_and(|project| project.format == crate::Format::Rpm));
    let refused = Project::parse(&text("deb", "Perl_X"), "twostage.toml", &noble).map_err(|e| e.to_string());
    assert!(refused.is_err_and(|e| e.starts_with("twostage.toml:7: package name \"Perl_X\" is not valid")));
    let refused = Project::parse(&text("rpm", "x").replace("image =", "bootstrap ="), "twostage.toml", &noble).map_err(|e| e.to_string());
    assert!(refused.is_err_and(|e| e.contains("this project makes rpms")));
    let refused = Project::parse(&text("apk", "x"), "twostage.toml", &noble).map_err(|e| e.hint_text().map(str::to_string));
    assert_eq!(refused.err().flatten().as_deref(), Some("write \"deb\" or \"rpm\""));
}

#[test]
fn a_channel_that_the_repository_could_not_publish_names_its_line() {
    for (channel, why) in [("pool", "the server uses it | take another word"), ("Main", "a channel's name | use lower-case letters")] {
        let refused = refuse(&format!("[repository]\nchannel = \"{channel}\"\n"));
        assert!(refused.starts_with(&format!("twostage.toml:6: \"{channel}\" cannot be")) && refused.contains(why), "{refused}");
    }
}

#[test]
fn a_bootstrap_names_a_release_or_leaves_it_to_the_host() {
    let base = |bootstrap: &str| {
        let text = HEAD.replace("debian:bookworm", bootstrap);
        Project::parse(&text, "twostage.toml", &noble).map(|project| project.base.value).map_err(|error| error.to_string())
    };
    let bootstrap = |release: &str, of_host| Base::Bootstrap { release: release.parse().expect("one"), of_host, mirrors: Vec::new() };
    assert_eq!(base("debian:trixie"), Ok(bootstrap("debian:trixie", false)));
    assert_eq!(base("host"), Ok(bootstrap("ubuntu:noble", true)));
    for option in ["debian:-x", "debian:--setup-hook", "debian:", "debian:a/b", "debian:a\\nb", "-debian:x"] {
        assert!(base(option).is_err(), "{option}");
    }
    assert_eq!(base("fedora:41"), Err("twostage.toml:4: `fedora:41` cannot be bootstrapped".into()));
}

/// What a project names lies below its folder: there is no key whose value leads out by its text.
#[test]
fn paths_lead_nowhere_but_below_the_projects_folder() {
    let text = |key: &str, path: &str| {
        let table = |text: &str| format!("{HEAD}{text}");
        let source = "[[component]]\nname = \"greet\"\nsource = ";
        match key {
            "archive" | "layout" | "rootfs" => format!("[project]\nname = \"demo\"\n[base]\n{key} = {path}\n"),
            "image's base" => table(&format!("[runtime.demo]\npackages = [\"greet\"]\nbase = {{ rootfs = {path} }}\n")),
            "source" => table(&format!("{source}{path}\n")),
            "folder" => table(&format!("{source}{{ folder = {path} }}\n")),
            "patches" => table(&format!("{source}\"greet\"\npatches = [{path}]\n")),
            "dockerfile" => table(&format!("{source}\"greet\"\npackages = \"/p\"\ndockerfile = {path}\n")),
            "path" | "key" => table(&format!("[repository]\n{key} = {path}\n")),
            "files" => table(&format!("[runtime.demo]\npackages = [\"greet\"]\nfiles = {{ \"/etc/x\" = {path} }}\n")),
            _ => table(&format!("[runtime.demo]\npackages = [\"greet\"]\nfiles = {{ \"/etc/x\" = {{ source = {path} }} }}\n")),
        }
    };
    let keys = [
        "archive",
        "layout",
        "rootfs",
        "image's base",
        "source",
        "folder",
        "patches",
        "dockerfile",
        "path",
        "key",
        "files",
        "files' table",
    ];
    let bad = ["", "/", "/etc/shadow", "..", "../x", "a/../../x", "a/..", "./..", "x\\u0000y", "x\\u001B[2J", "x\\ny"].map(String::from);
    for key in keys {
        for path in bad.iter().chain([&"x/".repeat(3000)]) {
            let text = text(key, &format!("\"{path}\""));
            let line = text.lines().take_while(|line| !line.contains(&format!("\"{path}\""))).count() + 1;
            let error = Project::parse(&text, "twostage.toml", &noble).expect_err(&text);
            let what = error.to_string();
            assert!(
                what.starts_with("twostage.toml:") && what.contains(" is not a path below the project file's folder"),
                "{key} {path}: {what}"
            );
            assert!(path.is_empty() || what.starts_with(&format!("twostage.toml:{line}: ")), "{key} {path}: {what}");
            assert!(!what.contains(char::is_control) && what.len() < 300, "{what:?}");
            assert!(error.hint_text().is_some_and(|hint| hint.starts_with("move it there") || hint.contains("--repository")), "{key}");
        }
        if !["path", "key"].contains(&key) {
            for path in [".twostage/repository/key/signing.asc", "./.twostage//x", ".twostage"] {
                let error = Project::parse(&text(key, &format!("\"{path}\"")), "twostage.toml", &noble).expect_err(key).to_string();
                assert!(error.ends_with(&format!("`{path}` is in .twostage, which is twostage's own")), "{key}: {error}");
            }
        }
    }
}

#[test]
fn the_repository_has_a_folder_to_itself() {
    let project = |settings: &str| {
        refuse(&format!(
            "[[component]]\nname = \"greet\"\nsource = \"src/greet\"\npatches = [\"patches/a.patch\"]\n\
             [runtime.demo]\npackages = [\"greet\"]\nfiles = {{ \"/etc/x\" = \"conf/x\" }}\n[repository]\n{settings}\n"
        ))
    };
    for path in [".", "./", "./."] {
        assert!(project(&format!("path = \"{path}\"")).contains(&format!(":13: `path = \"{path}\"` is the project's own folder")));
    }
    for (path, why) in [
        ("src", "holds `src/greet`, which is the project's"),
        ("src/greet/", "holds `src/greet`"),
        ("./src//greet/./debian", "holds `src/greet/debian/control`"),
        ("src/greet/out", "is in the source of component `greet`: builders would get it"),
        ("patches", "holds `patches/a.patch`"),
        ("conf", "holds `conf/x`"),
        ("conf/x", "holds `conf/x`"),
        ("twostage.toml", "holds `twostage.toml`"),
        ("twostage.lock", "holds `twostage.lock`"),
        (".twostage", "is in twostage's own folder"),
        (".twostage/images", "is in twostage's own folder"),
        (".git/refs/tags", "is in .git, which is version control's"),
    ] {
        let refused = project(&format!("path = \"{path}\""));
        assert!(refused.starts_with("twostage.toml:13: `path = ") && refused.contains(why), "{path}: {refused}");
        assert!(refused.contains("| name a "), "{path}: {refused}");
    }
    for (key, why) in [
        ("src/greet/key.asc", "is in the source of component `greet`"),
        ("conf/x", "is a file of the project: line 11 names it"),
        ("twostage.lock", "is a file of the project"),
        ("keys/", "is a folder"),
        (".", "is a folder"),
        (".git/key", "is in .git"),
    ] {
        let refused = project(&format!("key = \"{key}\""));
        assert!(refused.starts_with("twostage.toml:13: `key = ") && refused.contains(why), "{key}: {refused}");
    }
    for fine in [
        "path = \"repo\"",
        "path = \"out/repo\"\nkey = \"keys/team.asc\"",
        "key = \".twostage/repository/key/other.asc\"",
        "path = \".twostage/repository\"",
    ] {
        assert_eq!(project(fine), "taken", "{fine}");
    }
    let whole = "[[component]]\nname = \"greet\"\nsource = \".\"\n[repository]\n";
    assert!(refuse(&format!("{whole}path = \"repo\"")).contains("is in the source of component `greet`"));
    assert!(refuse(&format!("{whole}key = \"key.asc\"")).contains("is in the source of component `greet`"));
    assert_eq!(refuse(whole), "taken", "the state is in no source");
}

#[test]
fn an_image_is_not_called_like_a_part_of_an_oci_layout() {
    for name in ["blobs", "\"index.json\"", "oci-layout"] {
        assert!(refuse(&format!("[runtime.{name}]\npackages = [\"greet\"]\n")).contains("OCI layouts use it"), "{name}");
    }
}

#[test]
fn settings_of_an_image_are_read_by_what_they_mean() {
    for (line, said) in [
        ("workdir = \"srv\"", "`srv` in `workdir` is not an absolute folder of the image"),
        ("workdir = \"/a/../b\"", "is not an absolute folder of the image"),
        ("volumes = [\"/a b\"]", "`/a b` in `volumes` is not an absolute folder of the image"),
        ("workdir = \"/$HOME\"", "is not an absolute folder of the image"),
        ("stop_signal = \"TERM\"", "`TERM` is not a signal"),
        ("stop_signal = \"65\"", "`65` is not a signal"),
        ("healthcheck = { cmd = [] }", "`healthcheck` has no command"),
        ("healthcheck = { cmd = [\"x\"], interval = \"30\" }", "`30` is not a time for the healthcheck's interval"),
        ("healthcheck = { cmd = [\"x\"], timeout = \"1s1m\" }", "`1s1m` is not a time"),
        ("healthcheck = { cmd = [\"x\"], start_period = \"0s\" }", "`0s` is not a time"),
        ("locales = [\"de\"]", "this image is not slim"),
        ("slim = true\nlocales = [\"DE\"]", "`DE` is not a language"),
        ("slim = true\nlocales = [\"de/..\"]", "`de/..` is not a language"),
        ("slim = true\nlocales = [\"de_\"]", "`de_` is not a language"),
        ("slim = true\nlocales = [\"@@\"]", "`@@` is not a language"),
        ("workdir = \"/proc/self\"", "`/proc/self` in `workdir` is not a folder of the image: /proc is the kernel's"),
        ("volumes = [\"/proc\"]", "/proc is the kernel's"),
        ("volumes = [\"/sys/fs\"]", "/sys is the kernel's"),
        ("volumes = [\"/dev/shm\"]", "/dev is the kernel's"),
        ("volumes = [\"/\"]", "`/` in `volumes` is not an absolute folder"),
        ("volumes = [\"//proc\"]", "`//proc` in `volumes` is not an absolute folder"),
        ("volumes = [\"/./proc\"]", "is not an absolute folder"),
        ("volumes = [\"/a/\"]", "is not an absolute folder"),
        ("volumes = [\"data\"]", "is not an absolute folder"),
        ("volumes = [\"/a\", \"/b\", \"/a\"]", "`/a` is twice in `volumes`"),
        ("stop_signal = \"SIGA\"", "`SIGA` is not a signal"),
        ("stop_signal = \"SIGRTMIN+16\"", "is not a signal"),
        ("stop_signal = \"SIGRTMAX-0\"", "is not a signal"),
        ("stop_signal = \"SIGTERM \"", "is not a signal"),
        ("stop_signal = \"sigterm\"", "is not a signal"),
        ("stop_signal = \"+9\"", "`+9` is not a signal"),
        ("stop_signal = \"09\"", "`09` is not a signal"),
        ("stop_signal = \"0\"", "`0` is not a signal"),
        ("healthcheck = { cmd = [\"\"] }", "the program in `healthcheck` has no name"),
        ("healthcheck = { cmd = [\"x\"], retries = 0 }", "cannot have 0 retries"),
        ("healthcheck = { cmd = [\"x\"], retries = 4294967295 }", "cannot have 4294967295 retries"),
        ("healthcheck = { cmd = [\"x\"], interval = \"999999999h\" }", "is not a time"),
        ("entrypoint = [\"\"]", "the program in `entrypoint` has no name"),
        ("entrypoint = [\" \"]", "the program in `entrypoint` has no name"),
        ("cmd = [\"\"]", "the program in `cmd` has no name"),
        ("check = [\"\", \"x\"]", "the program in `check` has no name"),
        ("provides = [\"mail transport\"]", "mail transport"),
        ("provides = [\"mta (= 1)\"]", "mta (= 1)"),
        ("provides = [\"mta, libc6\"]", "mta, libc6"),
        ("provides = [\"mta\\nDepends: x\"]", "mta"),
        ("provides = [\"-x\"]", "-x"),
        ("provides = [\"mta\", \"mta\"]", "`mta` is twice in `provides`"),
        ("provides = [\"demo-config\"]", "`demo-config` is installed"),
        ("provides = [\"greet\"]", "`greet` is installed"),
        ("check = \"x\"", "expected a sequence, or a table"),
        ("check = { run = [\"x\"] }", "the `check` has no `until`"),
        ("check = { run = [\"\"], until = \"tcp://localhost:1\" }", "the program in `run` has no name"),
        ("check = { until = \"127.0.0.1:8080\" }", "it has no scheme"),
        ("check = { until = \"ftp://127.0.0.1:21/\" }", "only http and tcp are asked"),
        ("check = { until = \"https://127.0.0.1:8443/\" }", "https cannot be asked there"),
        ("check = { until = \"http://example.org/\" }", "only the container itself is asked"),
        ("check = { until = \"http://127.0.0.1@example.org/\" }", "only the container itself is asked"),
        ("check = { until = \"http://127.0.0.1:80@example.org/\" }", "its port is not a number"),
        ("check = { until = \"http://127.0.0.1.:80/\" }", "only the container itself is asked"),
        ("check = { until = \"http://[::1]:80/\" }", "only the container itself is asked"),
        ("check = { until = \"http://127.0.0.1:0/\" }", "its port is not a number from 1 to 65535"),
        ("check = { until = \"http://127.0.0.1:65536/\" }", "its port is not a number"),
        ("check = { until = \"http://127.0.0.1:080/\" }", "its port is not a number"),
        ("check = { until = \"http://127.0.0.1:80/a b\" }", "it has a character that no URL has"),
        ("check = { until = \"http://127.0.0.1:80/\\r\\nX: y\" }", "it has a character that no URL has"),
        ("check = { until = \"http://127.0.0.1:80/#top\" }", "a part after # is never sent"),
        ("check = { until = \"tcp://127.0.0.1\" }", "it has no port"),
        ("check = { until = \"tcp://127.0.0.1:80/\" }", "nothing follows the port"),
        ("check = { until = \"tcp://localhost:1\", timeout = \"999ms\" }", "`999ms` is not a time that a check may take"),
        ("check = { until = \"tcp://localhost:1\", timeout = \"10m1ms\" }", "is not a time that a check may take"),
        ("check = { until = \"tcp://localhost:1\", timeout = \"20\" }", "is not a time that a check may take"),
        ("check = { until = \"tcp://localhost:1\", every = \"1s\" }", "unknown key `every`"),
        ("expose = [\"0080\"]", "`0080` is not a port"),
        ("expose = [0]", "`0` is not a port"),
        ("expose = [-1]", "`-1` is not a port"),
        ("expose = [\"80/\"]", "`80/` is not a port"),
        ("expose = [\"80/TCP\"]", "is not a port"),
        ("expose = [\"80-90\"]", "is not a port"),
        ("expose = [80, \"80\"]", "`80` is twice in `expose`"),
        ("user = { name = \"app\", uid = 4294967295 }", "4294967295 is no uid"),
        ("user = \"4294967295\"", "4294967295 is no uid"),
        ("user = { name = \"app\", uid = 4294967296 }", "invalid value"),
        ("user = { name = \"app\", uid = -1 }", "invalid value"),
        ("user = { name = \"root\", uid = 1000 }", "user `root` with uid 1000: root is uid 0"),
        ("user = { name = \"app\", uid = 0 }", "user `app` with uid 0"),
        ("user = \"007\"", "user `007` is neither a name nor a uid"),
        ("user = \"1000:1000\"", "is not a user name"),
        ("user = \"\"", "is not a user name"),
        ("env = { \"\" = \"x\" }", "`` is not a name of an environment variable"),
        ("env = { \"A=B\" = \"x\" }", "is not a name of an environment variable"),
        ("env = { \"A\\u001b\" = \"x\" }", "`A\\u{1b}` is not a name of an environment variable"),
        ("labels = { \"a\\u001b\" = \"x\" }", "`a\\u{1b}` is not a label name"),
        ("labels = { \"twostage.base\" = \"x\" }", "is twostage's own"),
        ("files = { \"/\" = \"f\" }", "`/` is not an absolute path of the image"),
        ("files = { \"/proc/x\" = \"f\" }", "`/proc/x` cannot be a file of an image: /proc is the kernel's"),
        ("files = { \"/dev/null\" = \"f\" }", "`/dev/null` cannot be a file of an image"),
        ("files = { \"/tmp/x\" = \"f\" }", "nothing stays in /tmp"),
        ("files = { \"/var/lib/dpkg/status\" = \"f\" }", "/var/lib/dpkg is the package manager's"),
        ("files = { \"/etc/a\" = \"f\", \"/etc/a/b\" = \"f\" }", "`/etc/a/b` is below `/etc/a`, which line 7 makes a file"),
        ("files = { \"/etc/a\" = { source = \"f\", mode = \"+755\" } }", "`+755` is not a file mode"),
        ("files = { \"/etc/a\" = { source = \"f\", mode = \"\" } }", "`` is not a file mode"),
        ("files = { \"/etc/a\" = { source = \"f\", mode = \"10000\" } }", "`10000` is not a file mode"),
    ] {
        let refused = refuse(&format!("[runtime.demo]\npackages = [\"greet\"]\n{line}\n"));
        assert!(refused.starts_with("twostage.toml:") && refused.contains(said), "{line}: {refused}");
    }
    for line in [
        "workdir = \"/srv/app\"\nvolumes = [\"/var/lib/app\", \"/process\"]\nstop_signal = \"SIGRTMIN+3\"",
        "stop_signal = \"9\"\nuser = \"root\"",
        "user = { name = \"root\", uid = 0 }",
        "user = \"0\"",
        "user = \"1000\"",
        "user = { name = \"app\", uid = 4294967294 }",
        "expose = [80, \"80/udp\", \"65535/sctp\"]",
        "entrypoint = [\"x\"]\ncmd = [\"\"]",
        "files = { \"/etc/a\" = \"f\", \"/etc/ab\" = { source = \"f\", mode = \"04755\" } }",
        "healthcheck = { cmd = [\"x\"], interval = \"1m30s\", timeout = \"500ms\", start_period = \"2h\", retries = 3 }",
        "slim = true\nlocales = [\"de\", \"pt_BR\", \"sr@latin\"]",
    ] {
        assert_eq!(refuse(&format!("[runtime.demo]\npackages = [\"greet\"]\n{line}\n")), "taken", "{line}");
    }
    let replaces = |name: &str| refuse(&format!("[[component]]\nname = \"greet\"\nsource = \"greet\"\nreplaces = [\"{name}\"]\n"));
    assert_eq!(replaces("libsystemd0"), "taken");
    assert!(replaces("libsystemd0 (>= 1)").starts_with("twostage.toml:8: "), "{}", replaces("libsystemd0 (>= 1)"));
}

#[test]
fn an_image_may_be_above_another_one_of_the_project() {
    let image = |name: &str, base: &str| format!("[runtime.{name}]\npackages = [\"greet\"]\nbase = {{ image = \"{base}\" }}\n");
    let text = format!("{HEAD}{}{}{}", image("aa", "bb:latest"), image("bb", "cc"), image("cc", "debian:12"));
    let project = Project::parse(&text, "twostage.toml", &noble).expect("a project");
    let order: Vec<&str> = project.images_in_order().iter().map(|image| image.name.value.as_str()).collect();
    assert_eq!(order, ["cc", "bb", "aa"]);
    assert_eq!(project.base_of(&project.images["aa"]).value, Base::Image("debian:12".into()));
    let refused = refuse(&format!("{}{}", image("aa", "bb"), image("bb", "aa")));
    assert!(refused.contains("images are the bases of each other in a circle: `aa` is above `bb`"), "{refused}");
    assert!(refuse(&image("aa", "aa")).contains("in a circle: `aa`"));
}

#[test]
fn values_of_other_tables_are_read_by_what_they_mean() {
    let component = |more: &str| format!("[[component]]\nname = \"greet\"\nsource = \"greet\"\n{more}\n");
    let built = |packages: &str| component(&format!("dockerfile = \"Dockerfile\"\npackages = \"{packages}\""));
    let of_source = |source: &str| format!("[[component]]\nname = \"greet\"\nsource = {{ {source} }}\n");
    let git = |revision: &str| of_source(&format!("git = \"https://h/x\", revision = \"{revision}\""));
    let image = |name: &str| format!("[runtime.\"{name}\"]\npackages = [\"greet\"]\n");
    for (text, said) in [
        (built("/"), "`packages = \"/\"` is not an absolute folder"),
        (built("/proc/1"), "is not an absolute folder"),
        (built("/a/../b"), "is not an absolute folder"),
        (built("packages"), "is not an absolute folder"),
        (component("patches = [\"a.patch\", \"a.patch\"]"), "`a.patch` is twice in `patches`"),
        (component("needs = [\"x\", \"x\"]"), "`x` is twice in `needs`"),
        (component("replaces = [\"libc6\", \"libc6\"]"), "`libc6` is twice in `replaces`"),
        (component("options = [\"\"]"), "\"\" is not a build option"),
        (component("options = [\"a b\"]"), "is not a build option"),
        (component("profiles = [\"no doc\"]"), "`no doc` is not a build profile"),
        (component("profiles = [\"nodoc\", \"nodoc\"]"), "`nodoc` is twice in `profiles`"),
        (component("env = { \"A B\" = \"1\" }"), "`A B` is not the name of a variable"),
        (component("env = { PATH = \"/evil\" }"), "`PATH` is set by twostage in every build"),
        (component("env = { A = \"1\\n2\" }"), "the value of `A` is not one line"),
        (format!("{}forbid = [\"a b\"]", image("demo")), "`a b` is not a name of packages"),
        (format!("{}unlinked = [\"usr/bin/x\"]", image("demo")), "`usr/bin/x` is not an absolute path"),
        (format!("{}unlinked = [\"/usr/../x\"]", image("demo")), "`/usr/../x` is not an absolute path"),
        (format!("{}unlinked = [\"/x\", \"/x\"]", image("demo")), "`/x` is twice in `unlinked`"),
        (component("parallel = 0"), "a build cannot have 0 jobs at once"),
        (git(&"A".repeat(40)), "is not a full commit id"),
        (git("main"), "revision `main` is not a full commit id"),
        (of_source("distribution = \"../x\""), "is not valid"),
        (of_source("distribution = \"hello\", version = \"-1\""), "is not valid"),
        ("[repository]\nlisten = \"127.0.0.1:65536\"".into(), "`127.0.0.1:65536` is not an address and port"),
        ("[repository]\nlisten = \"localhost:80\"".into(), "is not an address and port"),
        ("[repository]\nkeep = 9223372036854775807".into(), "a channel cannot keep 9223372036854775807 earlier snapshots"),
        ("[repository]\nkeep = -1".into(), "invalid value"),
        ("[repository]\nkeep = { snapshots = 10001 }".into(), "a channel cannot keep 10001 earlier snapshots"),
        ("[repository]\nkeep = { versions = 0 }".into(), "would leave no version of any package"),
        ("[repository]\nkeep = { days = 36501 }".into(), "more than a hundred years"),
        ("[repository]\nkeep = { day = 3 }".into(), "unknown key `day`"),
        ("[repository]\nkeep = \"all\"".into(), "a table such as { versions = 3, days = 90, snapshots = 16 }"),
        ("[repository]\nyum_compression = \"xz\"".into(), "| write \"gzip\" or \"zstd\""),
        ("[repository]\nsuite = \"Book worm\"".into(), "`Book worm` cannot be a suite's name | use lower-case letters"),
        ("[repository]\nkey_type = \"rsa1024\"".into(), "| write \"rsa3072\", \"rsa4096\" or \"ed25519\""),
        (image("a..b"), "is not a name that an engine gives an image"),
        (image("a.-b"), "is not a name that an engine gives an image"),
        (image(&"a".repeat(64)), "is not a name that an engine gives an image"),
        (image("a\\u001bb"), "`a\\u{1b}b` is not a name for an image"),
    ] {
        let refused = refuse(&text);
        assert!(refused.starts_with("twostage.toml:") && refused.contains(said), "{text}: {refused}");
        assert!(!refused.ends_with("no hint") && !refused.contains("`twostage init`"), "{text}: {refused}");
    }
    let keep = "[repository]\nkeep = { versions = 3, days = 90, snapshots = 16 }";
    for text in
        [keep.into(), built("/packages"), git(&"0a".repeat(20)), "[repository]\nkeep = 0\nlisten = \"[::1]:80\"".into(), image("a.b-c--d")]
    {
        assert_eq!(refuse(&text), "taken", "{text}");
    }
    for (arch, said) in
        [("\"all\"", "`all` is not the architecture of a machine"), ("\"amd64\", \"amd64\"", "`amd64` is twice in `architectures`")]
    {
        let text = HEAD.replace("[base]", &format!("architectures = [{arch}]\n[base]"));
        let refused = Project::parse(&text, "twostage.toml", &noble).map_err(|error| error.to_string());
        assert!(refused.as_ref().is_err_and(|refused| refused.contains(said)), "{refused:?}");
    }
}

/// Reading takes time in proportion to the file, which is bounded.
#[test]
fn a_large_project_file_is_read_or_refused_in_no_time() {
    let start = std::time::Instant::now();
    let patches: String = (0..9000).map(|number| format!("\"{number}.patch\",\n")).collect();
    assert_eq!(refuse(&format!("[[component]]\nname = \"greet\"\nsource = \"greet\"\npatches = [\n{patches}]\n")), "taken");
    let many: String = (0..11_000).map(|number| format!("[[component]]\nname = \"c{number}\"\nsource = \"s\"\n")).collect();
    assert!(refuse(&many).contains("the project has 11000 components, and 10000 are allowed"));
    assert!(refuse(&"#".repeat(5 << 20)).contains("and 4194304 are allowed"));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_component_has_the_builds_settings_but_for_what_it_says_itself() {
    let text = HEAD.to_string()
        + "[build]\noptions = [\"nocheck\"]\nprofiles = [\"nodoc\"]\nenv = { A = \"1\", B = \"2\" }\nparallel = 2\n\
           [[component]]\nname = \"one\"\nsource = \"one\"\n\
           [[component]]\nname = \"two\"\nsource = \"two\"\noptions = []\nenv = { B = \"3\" }\nparallel = 4\n";
    let project = Project::parse(&text, "twostage.toml", &noble).expect("it is a project");
    let [one, two] = [0, 1].map(|at| project.components[at].build.clone());
    let env = |b: &str| BTreeMap::from([("A".to_string(), "1".to_string()), ("B".to_string(), b.to_string())]);
    assert_eq!((one.options, one.profiles, one.env, one.parallel), (vec!["nocheck".into()], vec!["nodoc".into()], env("2"), Some(2)));
    assert_eq!((two.options, two.profiles, two.env, two.parallel), (vec![], vec!["nodoc".into()], env("3"), Some(4)));
}

#[test]
fn a_check_is_a_command_or_a_server_that_answers() {
    let of = |check: &str| {
        let text = format!("{HEAD}[runtime.app]\npackages = [\"app\"]\n{check}\n");
        let project = Project::parse(&text, "twostage.toml", &noble).expect("it is right");
        let image = &project.images["app"];
        let until = image.until.as_ref().map(|until| (until.port, until.path.clone().unwrap_or_default(), until.timeout.as_millis()));
        (image.check.join(" "), until)
    };
    assert_eq!(of(""), (String::new(), None));
    assert_eq!(of("check = [\"app\", \"-x\"]"), ("app -x".into(), None));
    assert_eq!(of("check = { until = \"http://127.0.0.1\" }"), (String::new(), Some((80, "/".into(), 20_000))));
    let whole = "check = { run = [\"app\"], until = \"http://localhost:8080/a?b=%20\", timeout = \"1m30s\" }";
    assert_eq!(of(whole), ("app".into(), Some((8080, "/a?b=%20".into(), 90_000))));
    assert_eq!(of("check = { until = \"http://127.0.0.1:1?b\" }").1, Some((1, "/?b".into(), 20_000)));
    assert_eq!(of("check = { until = \"tcp://127.0.0.1:65535\" }").1, Some((65535, String::new(), 20_000)));
    let table = "[runtime.app.check]\nuntil = \"tcp://127.0.0.1:5432\"\ntimeout = \"10m\"";
    assert_eq!(of(table).1, Some((5432, String::new(), 600_000)));
}
