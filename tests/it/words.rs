//! Every place where a value of a project file, a lock, a source, an image or the environment becomes a word of a
//! program, a variable of its environment, or a part of a shell script. `words.txt` has each of them with the reason why
//! nobody can make it an option or a second word; a new place fails here until somebody has written its reason there.

use crate::support::{Used, docker, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use twostage_model::{Format, Project, Sha256, SnapshotId};
use twostage_runtime_templates::{Runtime, render};

/// How a call begins that gives words to a program or to a container.
const CALLS: [&str; 16] = [
    "Command::new(",
    ".arg(",
    ".args(",
    ".arg0(",
    ".env(",
    ".envs(",
    ".current_dir(",
    "git(&[",
    "git(folder, &[",
    "run(&[",
    "ask_users(&[",
    "tools.command(",
    "Run::new(",
    "Build::new(",
    "build_args.insert(",
    "env.push(",
];

/// Folders of code that is not a test.
const CODE: [&str; 9] =
    ["src", "beneath/src", "builder/src", "engine/src", "image/src", "model/src", "package/src", "reposerver/src", "runtime-templates/src"];
/// Folders of scripts that run in containers, and of the text that becomes a Dockerfile.
const SCRIPTS: [&str; 2] = ["builder/scripts", "runtime-templates/templates"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|cause| panic!("{}: {cause}", folder.display()));
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && name != "tests" {
            files(&path, end, found);
        } else if path.is_file() && name.ends_with(end) && !name.ends_with("tests.rs") && name != "testing.rs" {
            found.push(path);
        }
    }
    found.sort();
}

/// A file's code without its comments and its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("it is text");
    let text =
        text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().split("#[cfg(test)]\npub(crate) mod ").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// What stands between the bracket that `text` begins with and the one that ends it, on one line.
fn within(text: &str) -> String {
    let (mut depth, mut quoted, mut escaped) = (0i32, false, false);
    let mut inside = String::new();
    let mut before = ' ';
    for c in text.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            // (A quote that is a character is none.)
            quoted = c == '"' && before != '\'';
            depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        }
        inside.push(c);
        before = c;
        if depth == 0 {
            break;
        }
    }
    let words = inside.split_whitespace().collect::<Vec<_>>().join(" ");
    [("( ", "("), ("[ ", "["), (", )", ")"), (", ]", "]"), (" )", ")"), (" ]", "]"), (", }", " }")]
        .iter()
        .fold(words, |text, (from, to)| text.replace(from, to))
}

/// Each call of a file, its words behind it.
fn calls(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for call in CALLS {
        for (at, _) in code.match_indices(call) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if !call.starts_with('.') && (before.is_alphanumeric() || before == '_') {
                continue;
            }
            // `run(&[` begins its words with the round bracket.
            let open = call.find(['(', '{']).expect("a bracket");
            found.insert(format!("{}{}", &call[..open], within(&code[at + open..])));
        }
    }
    found
}

/// The variables and placeholders of a script: `"$x"` where it is quoted, `$x` where it is not.
fn expansions(text: &str) -> BTreeSet<String> {
    let text: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect();
    let chars: Vec<char> = text.chars().collect();
    let mut found = BTreeSet::new();
    // Whether what is here is in double quotes; one more for each `$(`.
    let mut quotes = vec![false];
    let mut single = false;
    let mut document: Option<String> = None;
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let quoted = *quotes.last().expect("one") || document.is_some();
        let rest: String = chars[at..].iter().take(200).collect();
        if let Some(end) = document.as_ref().filter(|end| c == '\n' && rest[1..].lines().next() == Some(end.as_str())).cloned() {
            at += end.len();
            document = None;
        } else if rest.starts_with("<<") && !quoted && !single {
            let word: String = rest.trim_start_matches('<').trim_start().chars().take_while(|c| c.is_ascii_uppercase()).collect();
            document = Some(word);
        } else if c == '\\' && !single {
            at += 1;
        } else if c == '\'' && !quoted {
            single = !single;
        } else if c == '"' && !single && document.is_none() {
            let last = quotes.last_mut().expect("one");
            *last = !*last;
        } else if rest.starts_with("{{") {
            let end = rest.find("}}").expect("a whole placeholder");
            found.insert(rest[..end + 2].to_string());
            at += end;
        } else if rest.starts_with("$(") && !single {
            quotes.push(false);
            at += 1;
        } else if c == ')' && !single && quotes.len() > 1 && !quotes.last().expect("one") {
            quotes.pop();
        } else if c == '$' && !single {
            let name: String = rest[1..].trim_start_matches('{').chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let name = if name.is_empty() { rest[1..].chars().take(1).collect() } else { name };
            if name.chars().all(|c| c.is_ascii_alphanumeric() || "_@*".contains(c)) {
                found.insert(if quoted { format!("\"${name}\"") } else { format!("${name}") });
            }
        }
        at += 1;
    }
    found
}

/// Every place, as a line of `words.txt` without its reason.
fn places() -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let shown = |path: &Path| path.strip_prefix(root()).expect("below it").display().to_string();
    for folder in CODE {
        let mut found = Vec::new();
        files(&root().join(folder), ".rs", &mut found);
        for path in found {
            places.extend(calls(&code(&path)).into_iter().map(|call| format!("{}: {call}", shown(&path))));
        }
    }
    for folder in SCRIPTS {
        let mut found = Vec::new();
        files(&root().join(folder), "", &mut found);
        for path in found {
            let text = fs::read_to_string(&path).expect("it is text");
            places.extend(expansions(&text).into_iter().map(|word| format!("{}: {word}", shown(&path))));
        }
    }
    places
}

#[test]
fn each_word_that_a_program_is_given_has_a_reason() {
    let table = fs::read_to_string(root().join("tests/it/words.txt")).expect("the table");
    let mut known = BTreeSet::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (place, reason) = line.rsplit_once(" # ").unwrap_or_else(|| panic!("no reason: {line}"));
        assert!(reason.split_whitespace().count() > 1, "no reason: {line}");
        assert!(known.insert(place.to_string()), "twice: {line}");
    }
    let places = places();
    let new: Vec<&String> = places.difference(&known).collect();
    let gone: Vec<&String> = known.difference(&places).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "tests/it/words.txt: say why nobody outside can make an option or a second word of these:\n{}\nand take these out:\n{}",
        new.iter().map(|place| format!("{place} # ")).collect::<Vec<_>>().join("\n"),
        gone.iter().map(|place| place.as_str()).collect::<Vec<_>>().join("\n")
    );
    println!("{} places", places.len());
}

/// Programs that take `--`: no word of others stands where an option would be one.
#[test]
fn scripts_put_the_words_of_others_behind_two_dashes() {
    let programs = ["apt-get ", "rpm ", "rpmspec ", "build -ba", "private_zypper ", "zypper ", "patch-info", "rm -f", "rmdir "];
    let words = ["\"$@\"", "\"$1\"", "\"$word\"", "\"$name\"", "\"$spec\"", "\"$f\"", "$advisories", "{{packages}}", "{{zypper_packages}}"];
    let mut seen = 0;
    for folder in SCRIPTS {
        let mut found = Vec::new();
        files(&root().join(folder), "", &mut found);
        for path in found {
            let text = fs::read_to_string(&path).expect("it is text").replace("\\\n", " ");
            for line in text.lines().flat_map(|line| line.split(';')).filter(|line| !line.trim_start().starts_with('#')) {
                // A function that hands all of its words on, options too; and dnf, whose words are checked before (`plain`).
                let hands_on = line.contains("private_dnf")
                    || line.contains("$MANAGER")
                    || line.contains("--xmlout")
                    || line.contains("ZYPP_LOGFILE") && !line.contains("{{");
                let last = words.iter().filter_map(|word| line.rfind(word)).max();
                if let Some(at) = last.filter(|at| programs.iter().any(|program| line[..*at].contains(program)) && !hands_on) {
                    seen += 1;
                    assert!(line[..at].contains(" -- "), "{}: {}", path.display(), line.trim());
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_new_place_is_found_however_it_is_written() {
    let code = "Command::new(\"git\")\n    .args([\n        \"-C\",\n        folder,\n    ]).env(\"A\", \")\");\n let x = run(&[\"a\", &format!(\"{b}\")]);";
    let expected = [".args([\"-C\", folder])", ".env(\"A\", \")\")", "Command::new(\"git\")", "run(&[\"a\", &format!(\"{b}\")])"];
    assert_eq!(calls(code).into_iter().collect::<Vec<_>>(), expected);
    let script = "# $no\nx=$1\nrun \"$@\" '$no' \"$(cat \"$T/a\" $b)\" \\$no\ncat <<END\n$c 'x' $d\nEND\necho $e ${f##*/} {{g}}\n";
    let found = expansions(script);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["\"$@\"", "\"$T\"", "\"$c\"", "\"$d\"", "$1", "$b", "$e", "$f", "{{g}}"]);
}

/// Values that mean something in a Dockerfile, in JSON, in a shell or to a reader of any of them.
const VALUES: [&str; 22] = [
    "",
    " ",
    "a b",
    "'",
    "\"",
    "\\",
    "\\\\",
    "\\\"",
    "a\\",
    "$HOME",
    "${HOME:-x}",
    "$(touch /x)",
    "`touch /x`",
    "\\n",
    "\\$HOME",
    "# comment",
    "<<EOF",
    "a=b c=d",
    "{{closure}}",
    "--flag",
    "[\"x\", 'y']; rm -rf / && |",
    "äß\u{200b}\u{2028}",
];

#[test]
fn docker_takes_each_value_as_the_project_says_it() {
    uses(Used::Engine);
    // (TOML's own escapes for a string are those of JSON.)
    let quoted = |value: &&str| serde_json::Value::from(*value).to_string();
    let (mut env, mut labels) = (String::new(), String::new());
    for (number, value) in VALUES.iter().enumerate() {
        env.push_str(&format!("V{number} = {}\n", quoted(value)));
        labels.push_str(&format!("\"test.v{number}\" = {}\n", quoted(value)));
    }
    let words = VALUES.iter().map(quoted).collect::<Vec<_>>().join(", ");
    let text = format!(
        "[project]\nname = \"demo\"\n[base]\nimage = \"x\"\n[runtime.demo]\npackages = [\"greet\"]\nentrypoint = [\"program\", {words}]\n\
         cmd = [{words}]\n[runtime.demo.env]\n{env}[runtime.demo.labels]\n{labels}"
    );
    let project = Project::parse(&text, "twostage.toml", &|| "debian:bookworm".parse()).expect("a project");
    let dockerfile = render(&Runtime {
        base_user: "",
        replaces: &[],
        format: Format::Deb,
        image: &project.images["demo"],
        project_file: "two\nRUN stage.toml",
        from: "x",
        base_layer: Sha256::of(b"base"),
        snapshot: SnapshotId(Sha256::of(b"snapshot")),
        packages: &[("greet".to_string(), "1.0".to_string())],
        closure: &BTreeMap::new(),
        signers: &[],
        date: 0,
    });
    assert_eq!(dockerfile.lines().filter(|line| line.starts_with("RUN ")).count(), 1, "{dockerfile}");
    let (_, metadata) = dockerfile.split_once("\nENV ").expect("the values");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("Dockerfile"), format!("FROM scratch\nENV {metadata}")).expect("a file");
    let tag = format!("twostage-test-words:{}", std::process::id());
    docker(&["build", "--quiet", "--tag", &tag, &folder.path().display().to_string()]).ok();
    let said = docker(&["image", "inspect", "--format", "{{json .Config}}", &tag]).ok().out;
    docker(&["image", "rm", &tag]).ok();
    let config: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    for (number, value) in VALUES.iter().enumerate() {
        let variable = format!("V{number}={value}");
        assert!(config["Env"].as_array().expect("a list").iter().any(|known| *known == variable.as_str()), "{variable:?}: {said}");
        assert_eq!(config["Labels"][format!("test.v{number}")], *value);
    }
    assert_eq!(config["Entrypoint"], serde_json::json!([&["program"], &VALUES[..]].concat()));
    assert_eq!(config["Cmd"], serde_json::json!(VALUES));
}

/// Words that programs, a Dockerfile or a shell would take for something else, one in each project; and the command that
/// would run them, in a folder where they would leave a file.
#[test]
fn a_project_whose_words_are_options_is_refused_and_nothing_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = folder.path().join("ran").display().to_string();
    let revision = "0".repeat(40);
    let base = |mirror: &str| format!("[base]\nbootstrap = \"debian:bookworm\"\nmirrors = ['{mirror}']\n");
    let source = |source: &str| format!("[base]\nimage = \"debian:bookworm\"\n[[component]]\nname = \"demo\"\nsource = {source}\n");
    let image = |line: &str| format!("[base]\nimage = \"debian:bookworm\"\n[runtime.demo]\npackages = [\"hello\"]\n{line}\n");
    let projects = [
        base(&format!("--setup-hook=touch {ran}")),
        base(&format!("--hook-dir={ran}")),
        base("/etc/shadow"),
        base("-"),
        base("deb [trusted=yes] http://127.0.0.1:9/debian bookworm main"),
        base("deb [signed-by=/tmp/x.gpg] http://127.0.0.1:9/debian bookworm main"),
        base("deb copy:/srv bookworm main"),
        format!("[base]\nbootstrap = \"debian:--setup-hook=touch {ran}\"\n"),
        "[base]\nbootstrap = \"debian:--help\"\n".to_string(),
        format!("[base]\nimage = \"debian\\nRUN touch {ran}\"\n"),
        source(&format!("{{ git = \"ext::touch {ran}\", revision = \"{revision}\" }}")),
        source(&format!("{{ git = \"--upload-pack=touch {ran}\", revision = \"{revision}\" }}")),
        source(&format!("{{ git = \"ssh://-oProxyCommand=touch {ran}/x\", revision = \"{revision}\" }}")),
        source(&format!("{{ git = \"https://h/x\", revision = \"--output={ran}\" }}")),
        source(&format!("{{ url = \"--output={ran}\", sha256 = \"{}\" }}", "0".repeat(64))),
        source(&format!("{{ distribution = \"hello\", version = \"-oAPT::Update::Pre-Invoke::=touch {ran}\" }}")),
        source("{ distribution = \"--compile\" }"),
        image(&format!("env = {{ A = \"x\\nRUN touch {ran}\" }}")),
        image("labels = { \"--x\" = \"y\" }"),
        image(&format!("user = \"root; touch {ran}\"")),
        image("cmd = [\"a\\u0000b\"]"),
        image("").replace("hello", "hello-"),
        image("").replace("\"hello\"", "\"-oDir::Bin=x\""),
    ];
    for (number, text) in projects.iter().enumerate() {
        let project = folder.path().join(number.to_string());
        fs::create_dir(&project).expect("a folder");
        fs::write(project.join("twostage.toml"), format!("[project]\nname = \"demo\"\n{text}")).expect("a file");
        for command in ["lock", "repo", "runtime", "update", "outdated"] {
            let done = crate::support::run(crate::support::twostage().arg("--project").arg(&project).arg(command));
            assert_eq!(done.status, 3, "{command}: {text}: {}", done.err);
            assert!(done.err.contains("twostage.toml:"), "{command}: {text}: {}", done.err);
        }
        let left: Vec<_> = fs::read_dir(&project).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert!(!Path::new(&ran).exists() && !left.iter().any(|name| name == "twostage.lock"), "{text}: {left:?}");
    }
}
