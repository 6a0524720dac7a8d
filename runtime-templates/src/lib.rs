//! A project's image and a snapshot → the text of a Dockerfile. Pure: same input, same bytes.
//!
//! The template in `templates/` is the Dockerfile as people read it; this module fills in what
//! differs from image to image, quoted for the place it stands in.

use std::collections::BTreeMap;
use twostage_model::names::{BASE_LABEL, FIXED_HOST, REPLACES_LABEL, SNAPSHOT_LABEL};
use twostage_model::project::{RuntimeImage, User};
use twostage_model::{Format, Sha256, SnapshotId};

/// Files and folders that installing packages rewrites although no package owns what is in them.
/// The RUN puts the base's bytes back, or removes what the base does not have.
pub fn volatile(format: Format) -> Vec<&'static str> {
    let own = match format {
        Format::Deb => VOLATILE_DEB.as_slice(),
        Format::Rpm => VOLATILE_RPM.as_slice(),
    };
    [VOLATILE.as_slice(), own].concat()
}

const VOLATILE: [&str; 14] = [
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
    "/var/log",
    "/run",
    "/tmp",
    "/var/tmp",
];

const VOLATILE_DEB: [&str; 3] = ["/var/cache/debconf/*-old", "/var/lib/dpkg/*-old", "/var/lib/apt/lists"];

const VOLATILE_RPM: [&str; 12] = [
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite-*",
    "/var/lib/rpm/.rpm.lock",
    "/var/lib/rpm/rpmdb.sqlite-*",
    "/usr/lib/sysimage/libdnf5/transaction_history.sqlite*",
    "/var/lib/dnf",
    "/var/lib/yum",
    "/var/cache/dnf",
    "/var/cache/libdnf5",
    "/var/lib/YaST2",
    "/var/lib/zypp",
    "/var/cache/zypp",
];

/// Of the folders in [`volatile`] those that go with their content when the base does not have them.
/// (One below /var/log may be a package's own.)
fn scratch(format: Format) -> &'static str {
    match format {
        Format::Deb => "/run /tmp /var/tmp",
        Format::Rpm => {
            "/run /tmp /var/tmp /var/lib/dnf /var/lib/yum /var/cache/dnf /var/cache/libdnf5 /var/lib/YaST2 /var/lib/zypp /var/cache/zypp /var/log/zypp"
        }
    }
}

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

/// What it keeps of them all the same: the languages that are named, each with its territories and variants, and the
/// language of a territory, which gettext falls back to.
fn kept_languages(locales: &[String]) -> Vec<String> {
    let mut options = Vec::new();
    for locale in locales {
        let language = locale.split(['_', '@']).next().unwrap_or(locale);
        let mut names = vec![locale.clone(), format!("{locale}_*"), format!("{locale}@*"), format!("{locale}.*")];
        names.extend((language != locale).then(|| language.to_string()));
        for name in names {
            for folder in ["/usr/share/locale/", "/usr/share/help/", "/usr/share/gnome/help/*/"] {
                let option = format!("--path-include={folder}{name}/*");
                if !options.contains(&option) {
                    options.push(option);
                }
            }
        }
    }
    options
}

/// The languages that rpm installs: a file's language counts if one of these begins with it (rpm's `%_install_langs`).
fn installed_languages(locales: &[String]) -> String {
    let all = ["C", "C.utf8"].into_iter().chain(locales.iter().map(String::as_str));
    format!("'%_install_langs {}' ", all.collect::<Vec<_>>().join(":"))
}

/// Everything that decides the text of a runtime Dockerfile.
#[derive(Debug, Clone)]
pub struct Runtime<'a> {
    /// The format of its packages.
    pub format: Format,
    /// The image's table of the project file.
    pub image: &'a RuntimeImage,
    /// The project file's name.
    pub project_file: &'a str,
    /// What stands behind FROM.
    pub from: &'a str,
    /// The user that the base's containers run as; empty for root.
    pub base_user: &'a str,
    /// The digest of the base's top layer, for [`BASE_LABEL`].
    pub base_layer: Sha256,
    /// The one source.
    pub snapshot: SnapshotId,
    /// Name and version of the packages to install: those that were asked for, exactly.
    pub packages: &'a [(String, String)],
    /// Every package that this installs over the base: of debs the file name and the file's digest, of
    /// rpms `name-version-release.arch` and the digest of the header.
    pub closure: &'a BTreeMap<String, Sha256>,
    /// Names of its packages that take the place of the base's or the distribution's, for [`REPLACES_LABEL`].
    pub replaces: &'a [String],
    /// Fingerprints of those, beside us, who signed rpms of the snapshot.
    pub signers: &'a [String],
    /// Seconds since 1970: the newest date among the packages. Nothing in the layer is newer.
    pub date: i64,
}

/// What `sha256sum *.deb | sha256sum` prints (its digest) in a folder that holds exactly the
/// closure, with `LC_ALL=C`; and the same for what `rpm -qp` says of rpms.
pub fn closure_digest(closure: &BTreeMap<String, Sha256>) -> Sha256 {
    let lines: String = closure.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    Sha256::of(lines.as_bytes())
}

/// The Dockerfile.
pub fn render(runtime: &Runtime<'_>) -> String {
    let image = runtime.image;
    let joined = |packages: &mut dyn Iterator<Item = String>| packages.collect::<Vec<_>>().join(" ");
    let with = |between: &str| joined(&mut runtime.packages.iter().map(|(name, version)| format!("{name}{between}{version}")));
    let (template, folders, packages) = match runtime.format {
        Format::Deb => {
            let folders =
                ["base", "sources", "lists", "lists/partial", "cache", "cache/archives", "cache/archives/partial", "log"].as_slice();
            (include_str!("../templates/deb.Dockerfile"), folders, with("="))
        }
        Format::Rpm => {
            let folders = ["base", "repos", "cache", "log", "persist", "keys"].as_slice();
            (include_str!("../templates/rpm.Dockerfile"), folders, with("-"))
        }
    };
    let parts = [
        ("{{intro}}", include_str!("../templates/intro.part")),
        ("{{begin}}", include_str!("../templates/begin.part")),
        ("{{finish}}", include_str!("../templates/finish.part")),
    ];
    let template = parts.iter().fold(template.to_string(), |text, (placeholder, part)| text.replace(placeholder, part));
    let slim = if image.slim { SLIM_PATH_OPTIONS.as_slice() } else { &[] };
    let kept = if image.slim { kept_languages(&image.locales) } else { Vec::new() };
    let path_options = PATH_OPTIONS.iter().chain(slim).copied().chain(kept.iter().map(String::as_str));
    let become_root = if is_root(runtime.base_user) { "" } else { "USER 0:0\n" };
    let values = [
        ("{{image}}", image.name.value.clone()),
        // (The name of a file may have a line break.)
        ("{{project_file}}", runtime.project_file.chars().map(|c| if c.is_control() { '?' } else { c }).collect()),
        ("{{from}}", runtime.from.to_string()),
        ("{{become_root}}", become_root.to_string()),
        ("{{workdir}}", image.workdir.as_deref().map(find_workdir).unwrap_or_default()),
        ("{{date}}", runtime.date.to_string()),
        ("{{folders}}", joined(&mut folders.iter().map(|folder| format!("\"$T/{folder}\"")))),
        ("{{volatile}}", volatile(runtime.format).chunks(5).map(|some| some.join(" ")).collect::<Vec<_>>().join(" \\\n        ")),
        ("{{scratch}}", scratch(runtime.format).to_string()),
        ("{{path_options}}", path_options.map(|option| format!("        'Dpkg::Options:: \"{option}\";' \\\n")).collect()),
        ("{{macros}}", if image.slim { installed_languages(&image.locales) } else { String::new() }),
        ("{{base_url}}", format!("http://{FIXED_HOST}")),
        ("{{keys}}", runtime.signers.iter().map(|signer| format!(" http://{FIXED_HOST}/keys/{signer}.asc")).collect()),
        ("{{snapshot}}", runtime.snapshot.to_string()),
        ("{{packages}}", packages),
        ("{{zypper_packages}}", with("=")),
        ("{{closure}}", closure_digest(runtime.closure).to_string()),
        ("{{count}}", runtime.closure.len().to_string()),
        ("{{make_user}}", image.user.as_ref().map(make_user).unwrap_or_default()),
        ("{{metadata}}\n", metadata(runtime)),
    ];
    // One pass from the front, so that no value is searched for placeholders.
    let mut rest = template.as_str();
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
    let User { name, uid, says_uid } = user;
    let made = format!(
        "    getent passwd {name} > /dev/null || useradd --no-log-init --user-group --create-home --uid {uid} --shell /bin/sh {name}; \\\n"
    );
    let checked = format!(
        "    [ \"$(id -u {name}):$(id -g {name})\" = {uid}:{uid} ] \\\n        || fail \"user {name} has the ids $(id -u {name}):$(id -g {name}); the project file says {uid}\"; \\\n"
    );
    if *says_uid { made + &checked } else { made }
}

/// WORKDIR would make a folder in a layer of its own, which no package has.
fn find_workdir(path: &str) -> String {
    format!("    [ -d {path} ] || fail \"workdir {path} is no folder of this image: let a package have it\"; \\\n")
}

/// Whether a USER of an image is root.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
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
    if !runtime.replaces.is_empty() {
        line(format!("LABEL {REPLACES_LABEL}={}", dockerfile_word(&runtime.replaces.join(" "))));
    }
    for volume in &image.volumes {
        line(format!("VOLUME {}", exec_form(std::slice::from_ref(volume))));
    }
    if let Some(workdir) = &image.workdir {
        line(format!("WORKDIR {workdir}"));
    }
    match &image.user {
        Some(User { uid, says_uid: true, .. }) => line(format!("USER {uid}:{uid}")),
        Some(User { name, .. }) => line(format!("USER {name}")),
        None if is_root(runtime.base_user) => {}
        None => line(format!("USER {}", runtime.base_user)),
    }
    if let Some(signal) = &image.stop_signal {
        line(format!("STOPSIGNAL {signal}"));
    }
    if let Some(check) = &image.healthcheck {
        let options: String = check.options.iter().map(|(option, value)| format!("--{option}={value} ")).collect();
        line(format!("HEALTHCHECK {options}CMD {}", exec_form(&check.cmd)));
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
        render_as(Format::Deb, table)
    }

    fn render_as(format: Format, table: &str) -> String {
        let text =
            format!("[project]\nname = \"demo\"\n[base]\nimage = \"debian:bookworm\"\n[runtime.demo]\npackages = [\"greet\"]\n{table}");
        let project = Project::parse(&text, "twostage.toml", &|| "debian:bookworm".parse()).expect("a right project file");
        let closure = BTreeMap::from([("greet_1.0_amd64.deb".to_string(), Sha256::of(b"greet"))]);
        render(&Runtime {
            format,
            image: &project.images["demo"],
            project_file: "twostage.toml",
            from: "debian@sha256:0000",
            base_user: "",
            base_layer: Sha256::of(b"base"),
            snapshot: SnapshotId(Sha256::of(b"snapshot")),
            packages: &[("greet".to_string(), "1.0".to_string())],
            closure: &closure,
            replaces: &[],
            signers: &[],
            date: 1_700_000_000,
        })
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_and_no_placeholder_is_left() {
        let text = render_project("");
        assert_eq!(text, render_project(""));
        assert!(!text.contains("{{"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("RUN ")).count(), 1);
        assert!(text.contains("apt-get install --download-only -- greet=1.0;"), "{text}");
    }

    #[test]
    fn rpms_are_installed_by_whatever_their_base_has() {
        let text = render_as(Format::Rpm, "slim = true\n");
        assert!(!text.contains("{{"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("RUN ")).count(), 1);
        for word in
            ["install \"$@\" greet-1.0;", "install --no-recommends \"$@\" -- greet=1.0 || [ $? = 102 ];", "'%_install_langs C:C.utf8' >"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn slim_keeps_the_languages_that_are_named() {
        let text = render_project("slim = true\nlocales = [\"de\", \"pt_BR\"]\n");
        for kept in ["/usr/share/locale/de/*", "/usr/share/locale/de_*/*", "/usr/share/help/pt_BR/*", "/usr/share/locale/pt/*"] {
            assert!(text.contains(&format!("--path-include={kept}\"")), "{kept}: {text}");
        }
        let text = render_as(Format::Rpm, "slim = true\nlocales = [\"de\", \"pt_BR\"]\n");
        assert!(text.contains("'%_install_langs C:C.utf8:de:pt_BR' "), "{text}");
    }

    #[test]
    fn the_image_is_what_the_project_says_of_it() {
        let text = render_project(
            "user = { name = \"app\", uid = 1234 }\nworkdir = \"/srv/app\"\nvolumes = [\"/srv/data\"]\nstop_signal = \"SIGQUIT\"\n\
             healthcheck = { cmd = [\"x\"], interval = \"30s\", retries = 2 }\n",
        );
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        assert_eq!(
            tail,
            [
                "HEALTHCHECK --interval=30s --retries=2 CMD [\"x\"]",
                "STOPSIGNAL SIGQUIT",
                "USER 1234:1234",
                "WORKDIR /srv/app",
                "VOLUME [\"/srv/data\"]"
            ]
        );
        assert!(text.contains("[ \"$(id -u app):$(id -g app)\" = 1234:1234 ]") && text.contains("[ -d /srv/app ] || fail"), "{text}");
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
