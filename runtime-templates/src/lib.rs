//! A project's image and a snapshot → the text of a Dockerfile. Pure: same input, same bytes.
//!
//! The template in `templates/` is the Dockerfile as people read it; this module fills in what
//! differs from image to image, quoted for the place it stands in.

use std::collections::BTreeMap;
use twostage_model::names::{BASE_LABEL, FIXED_HOST, SNAPSHOT_LABEL};
use twostage_model::project::{RuntimeImage, User};
use twostage_model::{Sha256, SnapshotId};

/// Files and folders that installing packages rewrites although no package owns what is in them.
/// The RUN puts the base's bytes back, or removes what the base does not have.
pub const VOLATILE: [&str; 17] = [
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
    "/etc/.pwd.lock",
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/var/cache/ldconfig/aux-cache",
    "/var/cache/debconf/*-old",
    "/var/lib/dpkg/*-old",
    "/var/lib/apt/lists",
    "/var/log",
    "/run",
    "/tmp",
    "/var/tmp",
];

/// Documentation is left out of every image; licences stay.
const PATH_OPTIONS: [&str; 7] = [
    "--path-exclude=/usr/share/doc/*",
    "--path-include=/usr/share/doc/*/copyright",
    "--path-exclude=/usr/share/man/*",
    "--path-exclude=/usr/share/info/*",
    "--path-exclude=/usr/share/lintian/*",
    "--path-exclude=/usr/share/gtk-doc/*",
    "--path-exclude=/usr/share/doc-base/*",
];

/// What `slim = true` leaves out beyond that: translations and help pages.
const SLIM_PATH_OPTIONS: [&str; 4] = [
    "--path-exclude=/usr/share/locale/*",
    "--path-include=/usr/share/locale/locale.alias",
    "--path-exclude=/usr/share/help/*",
    "--path-exclude=/usr/share/gnome/help/*",
];

/// Everything that decides the text of a runtime Dockerfile.
#[derive(Debug, Clone)]
pub struct Runtime<'a> {
    /// The image's table of the project file.
    pub image: &'a RuntimeImage,
    /// The project file's name.
    pub project_file: &'a str,
    /// What stands behind FROM.
    pub from: &'a str,
    /// The digest of the base's top layer, for [`BASE_LABEL`].
    pub base_layer: Sha256,
    /// The one source.
    pub snapshot: SnapshotId,
    /// `name=version` of the packages to install: those that were asked for, exactly.
    pub packages: &'a [String],
    /// File name to digest of every package that this installs over the base.
    pub closure: &'a BTreeMap<String, Sha256>,
    /// Seconds since 1970: the newest date among the packages. Nothing in the layer is newer.
    pub date: i64,
}

/// What `sha256sum *.deb | sha256sum` prints (its digest) in a folder that holds exactly the
/// closure, with `LC_ALL=C`.
pub fn closure_digest(closure: &BTreeMap<String, Sha256>) -> Sha256 {
    let lines: String = closure.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    Sha256::of(lines.as_bytes())
}

/// The Dockerfile.
pub fn render(runtime: &Runtime<'_>) -> String {
    let image = runtime.image;
    let mut path_options = PATH_OPTIONS.to_vec();
    if image.slim {
        path_options.extend(SLIM_PATH_OPTIONS);
    }
    let values = [
        ("{{image}}", image.name.value.clone()),
        ("{{project_file}}", runtime.project_file.to_string()),
        ("{{from}}", runtime.from.to_string()),
        ("{{date}}", runtime.date.to_string()),
        ("{{volatile}}", VOLATILE.chunks(5).map(|some| some.join(" ")).collect::<Vec<_>>().join(" \\\n        ")),
        ("{{path_options}}", path_options.iter().map(|option| format!("        'Dpkg::Options:: \"{option}\";' \\\n")).collect()),
        ("{{base_url}}", format!("http://{FIXED_HOST}")),
        ("{{snapshot}}", runtime.snapshot.to_string()),
        ("{{packages}}", runtime.packages.join(" ")),
        ("{{closure}}", closure_digest(runtime.closure).to_string()),
        ("{{count}}", runtime.closure.len().to_string()),
        ("{{make_user}}", image.user.as_ref().map(make_user).unwrap_or_default()),
        ("{{metadata}}\n", metadata(runtime)),
    ];
    // One pass from the front, so that no value is searched for placeholders.
    let mut rest = include_str!("../templates/deb.Dockerfile");
    let mut out = String::with_capacity(rest.len() + 2048);
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        match values.iter().find(|(placeholder, _)| rest.starts_with(placeholder)) {
            Some((placeholder, value)) => {
                out.push_str(value);
                rest = &rest[placeholder.len()..];
            }
            None => {
                out.push_str("{{");
                rest = &rest[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A named user that no package made. A number needs no entry in passwd.
fn make_user(user: &User) -> String {
    if user.name.starts_with(|c: char| c.is_ascii_digit()) {
        return String::new();
    }
    let User { name, uid } = user;
    format!(
        "    getent passwd {name} > /dev/null || useradd --no-log-init --user-group --create-home --uid {uid} --shell /bin/sh {name}; \\\n"
    )
}

/// The instructions that only change the image's config, and so make no layer.
fn metadata(runtime: &Runtime<'_>) -> String {
    let image = runtime.image;
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for (key, value) in &image.env {
        line(format!("ENV {key}={}", dockerfile_word(value)));
    }
    for port in &image.expose {
        line(format!("EXPOSE {port}"));
    }
    for (key, value) in &image.labels {
        line(format!("LABEL {key}={}", dockerfile_word(value)));
    }
    line(format!("LABEL {SNAPSHOT_LABEL}=\"{}\" {BASE_LABEL}=\"sha256:{}\"", runtime.snapshot, runtime.base_layer));
    if let Some(user) = &image.user {
        line(format!("USER {}", user.name));
    }
    if !image.entrypoint.is_empty() {
        line(format!("ENTRYPOINT {}", exec_form(&image.entrypoint)));
    }
    if !image.cmd.is_empty() {
        line(format!("CMD {}", exec_form(&image.cmd)));
    }
    out
}

/// A word of ENV and LABEL: in double quotes, with what a Dockerfile would expand escaped.
fn dockerfile_word(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A JSON list of strings. (Control characters never come here: the project file refuses them.)
fn exec_form(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use twostage_model::Project;

    fn render_project(table: &str) -> String {
        let text =
            format!("[project]\nname = \"demo\"\n[base]\nimage = \"debian:bookworm\"\n[runtime.demo]\npackages = [\"greet\"]\n{table}");
        let project = Project::parse(&text, "twostage.toml").expect("a right project file");
        let closure = BTreeMap::from([("greet_1.0_amd64.deb".to_string(), Sha256::of(b"greet"))]);
        render(&Runtime {
            image: &project.images["demo"],
            project_file: "twostage.toml",
            from: "debian@sha256:0000",
            base_layer: Sha256::of(b"base"),
            snapshot: SnapshotId(Sha256::of(b"snapshot")),
            packages: &["greet=1.0".to_string()],
            closure: &closure,
            date: 1_700_000_000,
        })
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_and_no_placeholder_is_left() {
        let text = render_project("");
        assert_eq!(text, render_project(""));
        assert!(!text.contains("{{"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("RUN ")).count(), 1);
        assert!(text.contains("apt-get install --download-only greet=1.0;"), "{text}");
    }

    #[test]
    fn values_cannot_leave_their_place() {
        let text = render_project(
            "env = { A = 'say \"$HOME\" \\' }\ncmd = ['a\"b', '{{closure}}']\nentrypoint = ['tini', '--']\nuser = \"app\"\nexpose = [8080]\n",
        );
        let tail: Vec<&str> = text.lines().rev().take(6).collect();
        assert_eq!(tail[0], r#"CMD ["a\"b", "{{closure}}"]"#);
        assert_eq!(tail[1], r#"ENTRYPOINT ["tini", "--"]"#);
        assert_eq!(tail[2], "USER app");
        assert_eq!(tail[4], "EXPOSE 8080");
        assert_eq!(tail[5], r#"ENV A="say \"\$HOME\" \\""#);
        assert!(text.contains("getent passwd app > /dev/null || useradd"));
    }

    #[test]
    fn the_closure_digest_is_what_sha256sum_prints() {
        let closure = BTreeMap::from([("b_1_all.deb".to_string(), Sha256::of(b"b")), ("a_1_all.deb".to_string(), Sha256::of(b"a"))]);
        let lines = format!("{}  a_1_all.deb\n{}  b_1_all.deb\n", Sha256::of(b"a"), Sha256::of(b"b"));
        assert_eq!(closure_digest(&closure), Sha256::of(lines.as_bytes()));
    }
}
