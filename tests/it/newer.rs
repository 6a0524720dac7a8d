//! What newer BuildKits know than Docker 26 does, which is asked in `differential.rs`: a story each, on the engine that
//! needs no daemon. The right values are those of BuildKit's own tests and sources.

use crate::one_pass::{Case, ENGINE, Made};
use crate::support::{run, tool, twostage};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// Names above the base, without folders that are only on the way.
fn listed(made: &Made, below: &str) -> Vec<String> {
    let mut names: Vec<String> = made.paths().into_iter().filter_map(|path| path.strip_prefix(below).map(str::to_string)).collect();
    names.sort();
    names
}

#[test]
fn chmod_takes_changes_for_files_folders_documents_and_stages() {
    let case = Case::new("chmod", "");
    for (name, mode) in [("d/plain", 0o600), ("d/program", 0o711), ("d/shared", 0o664)] {
        fs::set_permissions(case.file(&format!("context/{name}"), "x"), fs::Permissions::from_mode(mode)).expect("a mode");
    }
    fs::create_dir(case.join("context/d/below")).expect("a folder");
    fs::set_permissions(case.join("context/d/below"), fs::Permissions::from_mode(0o700)).expect("a mode");
    symlink("plain", case.join("context/d/link")).expect("a link");
    let made = case.compiles(
        "FROM base AS one\nRUN echo x > /m && chmod 640 /m\nFROM base\nARG M=u+x\nCOPY --chmod=$M d/plain /x\nCOPY --chmod=u=rwX,go=rX d /t/\n\
         COPY --from=one --chmod=g=u,o-r /m /m\nCOPY --chmod=+x <<EOF /script\n#!/bin/sh\nEOF\nADD --chmod=a-w,u+s d/program /s\n",
    );
    let mode = |path: &str| format!("{:o}", made.rights(path).0);
    assert_eq!((mode("x"), mode("m"), mode("script"), mode("s")), ("700".into(), "660".into(), "755".into(), "4511".into()));
    let folder = ["t/plain", "t/program", "t/shared", "t/below", "t/link"].map(mode);
    assert_eq!(folder, ["644", "755", "644", "755", "777"]);
    case.refused("FROM base\nCOPY --chmod=u!x d /t/\n").fails_with(3).says("line 2: COPY: --chmod=u!x is not a mode").says("u=rwX,go=rX");
}

#[test]
fn what_exclude_names_is_not_copied_from_a_context_or_a_stage() {
    let case = Case::new("exclude", "");
    for name in ["a.txt", "b.txt", "c.md", "sub/a.txt", "sub/deep/a.txt", "sub/deep/c.md", "out/kept", "out/x"] {
        case.file(&format!("context/{name}"), name);
    }
    let made = case.compiles(
        "FROM base AS one\nRUN mkdir -p /s/x && touch /s/a.txt /s/c && ln /s/a.txt /s/x/same && ln /s/a.txt /s/x/again\nFROM base\nARG T=*.txt\n\
         COPY --exclude=$T --exclude=!b.txt --exclude=Dockerfile . /e/\nCOPY --exclude=**/*.txt --exclude=sub/deep sub out /f/\n\
         ADD --exclude=* --exclude=!kept out /g/\nCOPY --from=one --exclude=*.txt /s /h/\nCOPY --exclude=a.txt a.txt sub/d*/ /i/\n",
    );
    assert_eq!(
        listed(&made, "e/"),
        ["b.txt", "c.md", "out", "out/kept", "out/x", "sub", "sub/a.txt", "sub/deep", "sub/deep/a.txt", "sub/deep/c.md"]
    );
    assert_eq!(listed(&made, "f/"), ["deep", "deep/c.md", "kept", "x"], "patterns are below each source");
    assert_eq!(listed(&made, "g/"), ["kept"]);
    assert_eq!(listed(&made, "h/"), ["c", "x", "x/again", "x/same"], "a file with several names is there under the others");
    // (What is named itself is copied; only below a folder something is left out.)
    assert_eq!(listed(&made, "i/"), ["a.txt", "c.md"]);
    case.refused("FROM base\nCOPY --exclude=[ . /e/\n").fails_with(3).says("line 2: COPY: --exclude: [ is not a pattern");
    // What is left out makes no other image.
    let text = "FROM base\nCOPY --exclude=a.txt . /e/\n";
    case.compiles(text);
    case.file("context/a.txt", "other");
    assert!(case.compile(&[]).ok().err.contains("unchanged"));
}

#[test]
fn what_parents_copies_keeps_the_folders_that_it_is_in() {
    let case = Case::new("parents", "");
    for name in ["x/a.txt", "y/a.txt", "y/b.md", "p/q/r/s"] {
        case.file(&format!("context/{name}"), name);
    }
    fs::set_permissions(case.join("context/x"), fs::Permissions::from_mode(0o750)).expect("a mode");
    let stage = "FROM base AS one\nRUN cd / && mkdir -p t/a/b/c/d/e t/a/b2/c/d/e t/a/b/c2/d/e2 && touch t/a/b/c/d/foo t/a/b/c/d/e/bay \
        t/a/b2/c/d/e/bar t/a/b/c2/d/e2/baz && chown 3:4 t/a/b && chmod 711 t/a/b\nFROM base\n";
    let made = case.compiles(&format!(
        "{stage}COPY --parents ./x/a.txt ./y/a.txt /parents/\nWORKDIR /w\nCOPY --parents */b.* p/./q/r .\nCOPY --parents --chown=7:8 x /o/\n\
         COPY --from=one --parents /t/a/b/./c/d /1/\nCOPY --from=one --parents /t/a/b/c/d/. /2/\nCOPY --from=one --parents /t/a/./b/./c /3/\n\
         COPY --from=one --parents /t/a/b*/./c/**/e /4/\nCOPY --from=one --parents /t/a/b2*/none* /5/\nCOPY --from=one --parents /t/a/./*/c /6/\n"
    ));
    assert_eq!(listed(&made, "parents/"), ["x", "x/a.txt", "y", "y/a.txt"]);
    assert_eq!((made.rights("parents/x").0, made.rights("o/x")), (0o750, (0o750, 7, 8, made.rights("o/x").3)));
    assert_eq!(listed(&made, "w/"), ["q", "q/r", "q/r/s", "y", "y/b.md"]);
    assert_eq!(listed(&made, "1/"), ["c", "c/d", "c/d/e", "c/d/e/bay", "c/d/foo"]);
    assert_eq!(listed(&made, "2/"), ["t", "t/a", "t/a/b", "t/a/b/c", "t/a/b/c/d", "t/a/b/c/d/e", "t/a/b/c/d/e/bay", "t/a/b/c/d/foo"]);
    assert_eq!(made.rights("2/t/a/b").0, 0o711);
    assert_eq!(&made.rights("2/t/a/b").1, &3, "owners come with the folders of a stage");
    assert_eq!(listed(&made, "3/"), ["b", "b/c", "b/c/d", "b/c/d/e", "b/c/d/e/bay", "b/c/d/foo"]);
    assert_eq!(listed(&made, "4/"), ["c", "c/d", "c/d/e", "c/d/e/bar", "c/d/e/bay"]);
    assert_eq!(listed(&made, "5/"), Vec::<String>::new());
    assert_eq!(listed(&made, "6/").len(), 11, "{:?}", listed(&made, "6/"));
    for (missing, why) in [("COPY --parents x/none /y/", "there is no x/none"), ("COPY --from=one --parents /t/none /y/", "there is no")] {
        case.refused(&format!("{stage}{missing}\n")).fails_with(3).says("line 4: COPY").says(why);
    }
}

#[test]
fn a_secret_can_be_a_variable_of_one_run_and_is_nowhere_else() {
    let case = Case::new("secret-env", "");
    let secret = case.file("token", "hush-hush").display().to_string();
    let given = ["--secret", &format!("id=k,src={secret}")];
    case.file(
        "context/Dockerfile",
        "FROM base\nENV K=own\nRUN --mount=type=secret,id=k,env=K echo \"${#K} ${K%-*}\" > /o; ls /run/secrets > /files 2>&1 || true\n\
         RUN --mount=type=secret,id=k,env=K,target=/t/k,mode=0444 test \"$(cat /t/k)\" = \"$K\" && echo \"$K\" | wc -c > /both\n\
         RUN echo \"$K\" > /after\nRUN --mount=type=secret,id=none,env=N echo \"[${N-unset}]\" > /none\n",
    );
    let said = case.compile(&[&given[..], &["--verbose"]].concat()).ok();
    let made = case.made();
    assert_eq!((made.text("o"), made.text("both"), made.text("after"), made.text("none")), ("9 hush\n", "10\n", "own\n", "[unset]\n"));
    assert!(made.text("files").contains("No such file"), "it is in no file: {}", made.text("files"));
    assert!(!format!("{} {} {}", made.all(), said.out, said.err).contains("hush-hush"));
    let store = tool("grep", &["-rl", "hush-hush", &ENGINE.store().to_string_lossy()]);
    assert_eq!(store.out, "", "it is nowhere in the store");
    case.refused("FROM base\nRUN --mount=type=secret,id=k,env=K,required true\n")
        .fails_with(2)
        .says("the secret k is not given")
        .says("--secret id=k");
    fs::write(&secret, [0xff, 0, 1]).expect("a file");
    case.file("context/Dockerfile", "FROM base\nRUN --mount=type=secret,id=k,env=K true\n");
    case.compile(&given).fails_with(2).says("the secret k is no text").says("write target=");
}

/// An agent with a key of its own, which ends with this value.
struct Agent(std::process::Child);

impl Agent {
    fn start(folder: &Path) -> Agent {
        let socket = folder.join("agent");
        let agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().expect("ssh-agent");
        crate::support::wait_until("the agent", || socket.exists());
        let key = folder.join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "key-of-the-test", "-f"]).arg(&key)).ok();
        run(Command::new("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket)).ok();
        Agent(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_ssh_agent_signs_for_a_run_and_neither_its_keys_nor_its_socket_are_anybodys_else() {
    let case = Case::new("ssh", "");
    let short = tempfile::Builder::new().prefix("ts-ssh").tempdir().expect("a folder");
    let _agent = Agent::start(short.path());
    let socket = short.path().join("agent");
    // The client and its libraries, where they are here.
    let client = run(Command::new("sh").args(["-ec", "command -v ssh-add"])).ok().out.trim().to_string();
    let libraries = tool("ldd", &[&client]).ok().out;
    for file in libraries.split_whitespace().filter(|word| word.starts_with('/')).chain([client.as_str()]) {
        let to = case.join(&format!("context/client{file}"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(file, to).expect("a copy");
    }
    case.file(
        "context/Dockerfile",
        "FROM base\nCOPY client /\nRUN --mount=type=ssh /usr/bin/ssh-add -l > /keys && /usr/bin/ssh-add -D > /removed 2>&1; \
         stat -c %a:%u:%g $SSH_AUTH_SOCK > /mode; echo $SSH_AUTH_SOCK > /where\n\
         RUN --mount=type=ssh,id=default,target=/tmp/a,uid=1000,gid=1001,mode=0620 stat -c %a:%u:%g /tmp/a > /mode2\n\
         RUN ls /run /tmp > /after 2>&1; echo ${SSH_AUTH_SOCK:-none} >> /after\nUSER app\n\
         RUN --mount=type=ssh,uid=1000 /usr/bin/ssh-add -l > /dev/null && echo user-too\n",
    );
    let said = run(case.command(&["--ssh", "default", "--verbose"]).env("SSH_AUTH_SOCK", &socket)).ok();
    assert!(said.err.contains("user-too"), "{}", said.err);
    let made = case.made();
    assert!(made.text("keys").contains("key-of-the-test"), "{}", made.text("keys"));
    assert!(made.text("removed").contains("refused") || made.text("removed").contains("Failed"), "{}", made.text("removed"));
    assert_eq!(
        (made.text("mode"), made.text("mode2"), made.text("where")),
        ("600:0:0\n", "620:1000:1001\n", "/run/buildkit/ssh_agent.0\n")
    );
    assert!(made.text("after").ends_with("none\n") && !made.text("after").contains("buildkit"), "{}", made.text("after"));
    assert!(made.entry("run/buildkit").is_none() && made.entry("tmp/a").is_none(), "no layer holds it");
    assert!(!made.all().to_string().contains("ssh_agent"), "nor does the history");
    let still = run(Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket)).ok();
    assert!(still.out.contains("key-of-the-test"), "the agent has its key");
    let named = format!("other={}", socket.display());
    case.file("context/Dockerfile", "FROM base\nRUN --mount=type=ssh,id=other,required test -S $SSH_AUTH_SOCK\n");
    case.compile(&["--ssh", &named]).ok();
    // (What is known is not done again, with the agent or without.)
    case.compile(&["--no-cache"]).fails_with(2).says("the SSH agent other is not forwarded").says("--ssh other");
    run(case.command(&["--ssh", "default"]).env_remove("SSH_AUTH_SOCK")).fails_with(2).says("SSH_AUTH_SOCK is not set");
    let key = format!("other={}", short.path().join("key").display());
    case.compile(&["--ssh", &key]).fails_with(2).says("is no socket").says("ssh-add");
}

/// `compile` with something on its standard input.
fn piped(input: &[u8], arguments: &[&str], folder: &Path) -> crate::support::Done {
    let mut command = twostage();
    ENGINE.choose(&mut command);
    command.args(["compile", "--network", "none"]).args(arguments).current_dir(folder);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(input).expect("written");
    std::io::Seek::rewind(&mut file).expect("rewound");
    run(command.stdin(file))
}

#[test]
fn the_dockerfile_or_the_whole_context_may_come_from_standard_input() {
    let case = Case::new("stdin", "FROM base\nCOPY one /from-file\n");
    let context = case.join("context");
    case.file("context/one", "1");
    case.file("context/.dockerignore", "left-out\n");
    case.file("context/left-out", "");
    let tagged = ["--tag", "stdin"];
    piped(b"FROM base\nRUN echo > /alone\n", &[&tagged[..], &["-"]].concat(), &context).ok();
    assert!(case.made().entry("alone").is_some());
    piped(b"FROM base\nCOPY one /x\n", &["-"], &context).fails_with(3).says("there is no one: this build has no context").says("-f");
    piped(b"FROM base\nCOPY . /c/\n", &[&tagged[..], &["-f", "-", "."]].concat(), &context).ok();
    assert_eq!(listed(&case.made(), "c/"), [".dockerignore", "Dockerfile", "one"]);
    let tar = Command::new("tar").args(["-czf", "-", "-C"]).arg(&context).arg(".").output().expect("tar").stdout;
    piped(&tar, &[&tagged[..], &["-"]].concat(), &context).ok();
    assert_eq!(case.made().text("from-file"), "1");
    piped(&tar, &["-f", "none", "-"], &context).fails_with(2).says("there is no none in the tar");
    piped(b"FROM base\n", &["-f", "-", "-"], &context).fails_with(2).says("cannot both come from standard input");
}

#[test]
fn names_stand_for_folders_images_and_layouts_that_are_given() {
    let case = Case::new("contexts", "");
    case.file("context/one", "main");
    for name in ["other/one", "other/sub/two", "other/left-out"] {
        case.file(name, name);
    }
    case.file("other/.dockerignore", "left-out\n");
    // An image of a layout, and one of the engine, that no name of the Dockerfile has.
    let made = case.compiles("FROM base\nRUN echo layout > /of-layout\n");
    assert!(made.entry("of-layout").is_some());
    let layout = case.join("layout").display().to_string();
    let mut flatten = twostage();
    ENGINE.choose(&mut flatten);
    run(flatten.args(["flatten", "contexts", "--to", &format!("oci:{layout}:1")])).ok();
    let other = format!("Src={}", case.join("other").display()).replace("Src", "src");
    let all = [
        "--build-context",
        &other,
        "--build-context",
        "docker.io/library/alpine:latest=docker-image://base",
        "--build-context",
        &format!("laid=oci-layout://{layout}:1"),
    ];
    case.file(
        "context/Dockerfile",
        "FROM nowhere AS laid\nRUN false\nFROM alpine AS one\nRUN echo $BASE > /yes\nFROM laid\nCOPY --from=src . /src/\nCOPY one /one\n\
         COPY --from=one /yes /yes\nCOPY --from=alpine /data/old /old\nRUN --mount=from=src,target=/m cat /m/sub/two > /mounted\n",
    );
    case.compile(&all).ok();
    let made = case.made();
    assert_eq!(listed(&made, "src/"), [".dockerignore", "one", "sub", "sub/two"]);
    assert_eq!((made.text("one"), made.text("yes"), made.text("old"), made.text("mounted")), ("main", "yes\n", "old\n", "other/sub/two"));
    assert!(made.entry("of-layout").is_some(), "a stage is what is given in its name");
    let left = tool("grep", &["-c", "twostage-compile", &ENGINE.store().join("images/index.json").to_string_lossy()]);
    assert_eq!(left.out.trim(), "0", "what was taken in for this run is gone");
    assert!(case.compile(&all).ok().err.contains("unchanged"));
    case.file("other/sub/two", "changed");
    assert!(!case.compile(&all).ok().err.contains("unchanged"));
    case.file("context/Dockerfile", "FROM src\n");
    case.compile(&all).fails_with(3).says("line 1: FROM: the context src is a folder").says("FROM scratch");
    case.compile(&["--build-context", "x=https://example.org/x.git"]).fails_with(2).says("fetched from elsewhere");
    case.compile(&["--build-context", "x=/no/such/folder"]).fails_with(2).says("cannot be read");
}

#[test]
fn owners_of_openshift_are_kept_and_those_that_no_map_reaches_refused() {
    let case = Case::new("high-owners", "");
    case.file("context/one", "1");
    case.file(
        "context/Dockerfile",
        "FROM base\nCOPY --chown=1000680000:1000680001 one /one\nRUN touch /two && chown 4294967294 /two\nUSER 1000680000\nRUN id -u\n",
    );
    let said = case.compile(&["--verbose"]).ok();
    assert!(said.err.contains("1000680000"), "{}", said.err);
    let made = case.made();
    assert_eq!((made.rights("one").1, made.rights("one").2, made.rights("two").1), (1_000_680_000, 1_000_680_001, 4_294_967_294));
    case.refused("FROM base\nCOPY --chown=3000000000 one /one\n").fails_with(6).says("are no ids of a container here").says("doctor");
    case.refused("FROM base\nUSER 4294967295\nRUN true\n").fails_with(4);
}
