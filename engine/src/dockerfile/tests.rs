//! Stories of whole Dockerfiles.

use super::state::{CopyStep, RunStep, Source, Start};
use super::*;
use std::collections::BTreeMap;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error} (hint: {:?})\n{text}", error.hint_text()))
}

fn base(json: &str) -> Start<'static> {
    Start::Image(Box::new(ImageConfig::from_json(json.as_bytes()).expect("a base")))
}

const DEBIAN: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin","LANG=C"],"Cmd":["bash"]},
    "rootfs":{"type":"layers","diff_ids":["sha256:0"]},"history":[{"created_by":"base"}]}"#;

/// Builds every stage on Debian's base and returns the last one's steps and state.
fn build(text: &str, build_args: &[(&str, &str)]) -> Result<(Vec<Step>, State)> {
    let file = Dockerfile::parse(text.as_bytes())?;
    let build_args = build_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let plan = file.plan(Options { build_args, ..Options::default() })?;
    let mut states: Vec<State> = Vec::new();
    let mut steps = Vec::new();
    for (index, planned) in plan.stages.iter().enumerate() {
        let start = match &planned.base {
            Base::Scratch => Start::Scratch,
            Base::Image(_) => base(DEBIAN),
            Base::Stage(earlier) => Start::Stage(&states[*earlier]),
        };
        let mut state = State::begin(&plan, index, start)?;
        steps = planned.stage.instructions.iter().map(|located| state.apply(&plan, located)).collect::<Result<_>>()?;
        states.push(state);
    }
    Ok((steps, states.pop().expect("a stage")))
}

fn built(text: &str) -> (Vec<Step>, State) {
    build(text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn runs(steps: &[Step]) -> Vec<&RunStep> {
    steps.iter().filter_map(|step| if let Step::Run(run) = step { Some(run) } else { None }).collect()
}

fn copies(steps: &[Step]) -> Vec<&CopyStep> {
    steps.iter().filter_map(|step| if let Step::Copy(copy) = step { Some(copy) } else { None }).collect()
}

fn history(state: &State) -> Vec<String> {
    let own = state.image.history.iter().filter(|line| !line.comment.is_empty());
    own.map(|line| format!("{}{}", if line.empty_layer { "0 " } else { "L " }, line.created_by)).collect()
}

fn error(text: &str) -> String {
    let error = build(text, &[]).expect_err(text);
    assert_eq!(error.class(), Class::Project, "{error}");
    format!("{error} -> {}", error.hint_text().unwrap_or_else(|| panic!("{error} has no hint")))
}

#[test]
fn a_program_is_compiled_in_one_stage_and_shipped_in_another() {
    let text = r#"# syntax=docker/dockerfile:1
ARG RELEASE=bookworm
FROM --platform=$TARGETPLATFORM debian:${RELEASE}-slim AS Build
ARG RELEASE
ENV SRC=/src OUT="$SRC/out" \
    # a comment does not end the instruction

    WHO='the team'
WORKDIR $SRC
WORKDIR out
COPY --chown=1000:1000 --chmod=0644 main.c lib/ ./
RUN --mount=type=cache,target=/var/cache --network=none make \
    all
FROM scratch
COPY --from=build /src/out/app /usr/bin/
USER 1000
EXPOSE 8080 53/udp
LABEL a=1 "b c"="d e"
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --retries=3 CMD curl -f http://localhost/
CMD ["--serve"]
ENTRYPOINT ["/usr/bin/app"]
"#;
    let file = parse(text);
    assert_eq!(file.warnings, [Warning { line: 7, what: "an empty line continues nothing; remove it".into() }]);
    let plan = file.plan(Options::default()).expect("a plan");
    assert_eq!(plan.stages[0].base, Base::Image("debian:bookworm-slim".into()));
    assert_eq!(plan.stages[1].base, Base::Scratch);
    assert_eq!(plan.origins(1).expect("origins"), [Origin::Stage(0)]);
    assert_eq!(plan.needed(1).expect("needed"), [0, 1]);

    let mut first = State::begin(&plan, 0, base(DEBIAN)).expect("a stage");
    let steps: Vec<Step> = plan.stages[0].stage.instructions.iter().map(|i| first.apply(&plan, i).expect("applied")).collect();
    assert_eq!(
        history(&first),
        [
            "0 ARG RELEASE=bookworm",
            "0 ENV SRC=/src OUT=/out WHO=the team",
            "L WORKDIR /src",
            "L WORKDIR /src/out",
            "L COPY --chown=1000:1000 --chmod=0644 main.c lib/ ./ # buildkit",
            "L RUN |1 RELEASE=bookworm /bin/sh -c make     all # buildkit",
        ]
    );
    let copy = copies(&steps)[0];
    assert_eq!(copy.sources, [Source::Path("/main.c".into()), Source::Path("/lib".into())]);
    assert_eq!((copy.destination.as_str(), copy.chmod.clone(), copy.unpack), ("/src/out/", Some(Chmod::Number(0o644)), false));
    let run = runs(&steps)[0];
    assert_eq!((run.workdir.as_str(), run.network), ("/src/out", RunNetwork::None));
    assert!(run.env.contains(&("RELEASE".into(), "bookworm".into())) && run.env.contains(&("LANG".into(), "C".into())));
    assert!(matches!(&run.mounts[..], [Mount::Cache { id, target, .. }] if id == "/var/cache" && target == "/var/cache"));

    let (steps, state) = built(text);
    assert_eq!(copies(&steps)[0].origin, Origin::Stage(0));
    assert_eq!(
        String::from_utf8(state.image.to_json().expect("json")).expect("text"),
        concat!(
            r#"{"architecture":"amd64","config":{"User":"1000","ExposedPorts":{"53/udp":{},"8080/tcp":{}},"#,
            r#""Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":["/usr/bin/app"],"#,
            r#""Cmd":["--serve"],"Volumes":{"/data":{}},"WorkingDir":"/","Labels":{"a":"1","b c":"d e"},"StopSignal":"SIGINT","#,
            r#""ArgsEscaped":true,"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost/"],"Interval":30000000000,"Retries":3}},"#,
            r#""history":[{"created_by":"COPY /src/out/app /usr/bin/ # buildkit","comment":"buildkit.dockerfile.v0"},"#,
            r#"{"created_by":"USER 1000","comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"EXPOSE map[53/udp:{} 8080/tcp:{}]","comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"LABEL a=1 b c=d e","comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"VOLUME [/data]","comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"STOPSIGNAL SIGINT","comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"HEALTHCHECK &{[\"CMD-SHELL\" \"curl -f http://localhost/\"] \"30s\" \"0s\" \"0s\" \"0s\" '\\x03'}","#,
            r#""comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"CMD [\"--serve\"]","comment":"buildkit.dockerfile.v0","empty_layer":true},"#,
            r#"{"created_by":"ENTRYPOINT [\"/usr/bin/app\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}],"#,
            r#""os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
        )
    );
}

#[test]
fn a_global_arg_is_seen_in_from_and_where_an_arg_repeats_its_name() {
    let text = "ARG V=1\nARG W=${V}2\nFROM img:$W\nRUN a $V\nARG V\nARG W=own\nARG X\nRUN b\n";
    assert_eq!(parse(text).plan(Options::default()).expect("a plan").stages[0].base, Base::Image("img:12".into()));
    let (steps, state) = built(text);
    assert_eq!(runs(&steps)[0].env.iter().find(|(name, _)| name == "V"), None);
    assert_eq!(history(&state)[4], "L RUN |3 V=1 W=own X= /bin/sh -c b # buildkit");
    assert_eq!(state.env().get("X"), None);
    let (_, state) = build(text, &[("V", "7"), ("X", "x")]).expect("built");
    assert_eq!(history(&state)[1..], ["0 ARG V=7", "0 ARG W=own", "0 ARG X=x", "L RUN |3 V=7 W=own X=x /bin/sh -c b # buildkit"]);
    assert!(!state.image.config.env.iter().any(|entry| entry.starts_with("V=")), "an ARG is not in the image");
}

#[test]
fn of_env_and_arg_the_later_one_counts_and_only_env_is_in_the_image() {
    let (_, state) = built("FROM a\nARG A=arg\nENV A=env\nARG LANG=D\nENV PATH=/x:$PATH B=$LANG LANG=$LANG\nENV B=$B.$A\n");
    assert_eq!(state.image.config.env, ["PATH=/x:/usr/bin", "LANG=D", "A=env", "B=D.env"]);
    let (_, state) = built("FROM a\nENV A=1 B=$A\nENV OLD some 'quoted'  text \nENV C=a\\ b D='a  b'\n");
    assert_eq!(state.image.config.env[2..], ["A=1", "B=", "OLD=some quoted  text", "C=a b", "D=a  b"]);
}

#[test]
fn proxies_reach_run_and_nothing_else() {
    let (steps, state) = build("FROM a\nRUN x $http_proxy\nLABEL p=$HTTP_PROXY\n", &[("http_proxy", "http://p")]).expect("built");
    let http: Vec<_> = ["HTTP_PROXY", "http_proxy"].map(|name| (name.to_owned(), "http://p".to_owned())).into();
    assert_eq!(runs(&steps)[0].proxies, http);
    assert_eq!(history(&state), ["L RUN /bin/sh -c x $http_proxy # buildkit", "0 LABEL p="]);
}

#[test]
fn an_unused_build_argument_is_named() {
    let file = parse("ARG A\nFROM a\nARG B\n");
    let build_args: BTreeMap<String, String> = ["A", "B", "C", "no_proxy", "TARGETARCH"].map(|name| (name.into(), String::new())).into();
    let plan = file.plan(Options { build_args, ..Options::default() }).expect("a plan");
    assert_eq!(plan.unused_arguments().iter().map(|w| w.what.as_str()).collect::<Vec<_>>(), ["no ARG declares the build argument C"]);
}

#[test]
fn a_stage_inherits_all_of_its_base_but_that_a_cmd_was_set() {
    let text =
        "FROM a AS one\nARG A=1\nENV E=$A\nWORKDIR /w\nUSER u\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x\nFROM one\nRUN y\nENTRYPOINT z\n";
    let (steps, state) = built(text);
    let run = runs(&steps)[0];
    assert_eq!((run.argv.join(" ").as_str(), run.user.as_str(), run.workdir.as_str()), ("/bin/bash -c y", "u", "/w"));
    assert!(run.env.contains(&("A".into(), "1".into())));
    assert_eq!((state.image.config.cmd.len(), state.image.config.entrypoint.join(" ")), (0, "/bin/bash -c z".into()));
    assert_eq!(history(&state)[5], r#"0 CMD ["/bin/bash" "-c" "x"]"#);
    let (_, state) = built("FROM a\nENTRYPOINT [\"z\"]\n");
    assert_eq!(state.image.config.cmd.len(), 0, "the base's CMD was for the base's ENTRYPOINT");
    let (_, state) = built("FROM a\nCMD [\"x\"]\nENTRYPOINT [\"z\"]\n");
    assert_eq!(state.image.config.cmd, ["x"]);
}

#[test]
fn workdirs_join_and_absolute_ones_stay_as_written() {
    let (steps, state) = built("FROM a\nWORKDIR b\nWORKDIR ../c/./d\nWORKDIR /e//f/\nWORKDIR g\nWORKDIR /\n");
    let lines: Vec<String> = history(&state);
    assert_eq!(lines, ["L WORKDIR /b", "L WORKDIR /c/d", "L WORKDIR /e//f/", "L WORKDIR /e/f/g", "0 WORKDIR /"]);
    assert!(matches!(&steps[2], Step::Workdir { path, .. } if path == "/e/f"));
}

#[test]
fn a_command_in_brackets_is_a_list_only_if_it_is_json() {
    let (steps, _) = built("FROM a\nRUN [\"a\", \"$B\"]\nRUN [ -f x ] && y\nRUN ['a']\nrun  z\n");
    let argv: Vec<String> = runs(&steps).iter().map(|run| run.argv.join("|")).collect();
    assert_eq!(argv, ["a|$B", "/bin/sh|-c|[ -f x ] && y", "/bin/sh|-c|['a']", "/bin/sh|-c|z"]);
    assert!(error("FROM a\nRUN [\"a\", 1]\n").contains("line 2: RUN: 1 in the list is not a string -> put it in quotes"));
}

#[test]
fn heredocs_are_scripts_or_files_or_the_shells() {
    let text = "FROM a\nENV A=1\nRUN <<EOF\necho $A\n# no comment\n\nEOF\nRUN <<-'END'\n\t#!/bin/python\n\tprint()\n\tEND\n\
                RUN cat <<X > /x && cat 3<<Y\nx\nX\ny\nY\n\
                COPY <<one <<'two' <<-three plain /etc/\n$A \"'\nEOF\none\n$A\ntwo\n\t\tt\\$A\nthree\nRUN echo \"<<NO\" <<<here\n";
    let (steps, state) = built(text);
    let runs = runs(&steps);
    assert_eq!(runs[0].argv[2], "echo $A\n# no comment\n\n");
    assert_eq!(runs[1].argv[2], "/dev/pipes/END");
    assert_eq!(runs[1].script.as_ref().map(|script| script.text.as_str()), Some("#!/bin/python\nprint()\n"));
    assert_eq!(runs[2].argv[2], "cat <<X > /x && cat 3<<Y\nx\nX\ny\nY");
    assert_eq!(runs[3].argv[2], "echo \"<<NO\" <<<here");
    let copy = copies(&steps)[0];
    assert_eq!(copy.sources, [Source::Path("/plain".into())]);
    let documents: Vec<String> = copy.documents.iter().map(|(name, text)| format!("{name}: {text}")).collect();
    assert_eq!(documents, ["one: 1 \"'\nEOF\n", "two: $A\n", "three: t$A\n"]);
    assert_eq!(history(&state)[4], "L COPY plain <<one <<two <<three /etc/ # buildkit");
    assert!(error("FROM a\nRUN <<EOF\nx\n").contains("line 2: RUN: the heredoc \"EOF\" does not end"));
}

#[test]
fn the_escape_character_can_be_a_backtick() {
    let (steps, state) = built("# escape=`\nFROM a\nRUN one `\n  two\\\nENV A=`$B C=\"x`\"y\" D=a\\b\n");
    assert_eq!(runs(&steps)[0].argv[2], "one   two\\");
    assert_eq!(state.image.config.env[2..], ["A=$B", "C=x\"y", "D=a\\b"]);
    // After any other line it is a comment.
    let (steps, _) = built("#\n# escape=`\nFROM a\nRUN one \\\n two\n");
    assert_eq!(runs(&steps)[0].argv[2], "one  two");
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let text = "FROM a\nRUN one \\\n\n# c\n two\nCOPY x /y\n";
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(parse(text).stages, parse(&windows).stages);
}

#[test]
fn two_escapes_at_the_end_do_not_continue_a_line() {
    let (steps, _) = built("FROM a\nRUN echo \\\\\nRUN b\\  \n\tc \\\n");
    let argv: Vec<&str> = runs(&steps).iter().map(|run| run.argv[2].as_str()).collect();
    assert_eq!(argv, ["echo \\\\", "b\tc"]);
}

#[test]
fn mounts_are_typed_and_have_dockers_defaults() {
    let text = "FROM a AS one\nFROM b\nARG D=/d\nWORKDIR /w\n\
        RUN --mount=target=x --mount=type=bind,from=one,source=../s,target=$D,rw --mount=type=tmpfs,target=/t,size=64m \
        --mount=type=secret,id=key --mount=type=secret,id=e,env=E --mount=type=secret,id=f,env=F,target=/f --mount=type=secret,target=/k/n,required,mode=0440,uid=7 \
        --mount=type=cache,target=c,sharing=locked,gid=5 --mount=type=bind,from=img,target=\"/q r\" --mount='type=bind,\"target=/v,w\"' true\n";
    let (steps, _) = built(text);
    let shown: Vec<String> = runs(&steps)[0].mounts.iter().map(|mount| format!("{mount:?}")).collect();
    assert_eq!(
        shown,
        [
            r#"Bind { origin: Context, source: "/", target: "/w/x", writable: false }"#,
            r#"Bind { origin: Stage(0), source: "/s", target: "/d", writable: true }"#,
            r#"Tmpfs { target: "/t", size: Some(67108864) }"#,
            concat!(
                r#"Secret { id: "key", target: Some("/run/secrets/key"), env: None, required: false, "#,
                r#"owner: Owner { mode: 256, uid: 0, gid: 0 } }"#
            ),
            r#"Secret { id: "e", target: None, env: Some("E"), required: false, owner: Owner { mode: 256, uid: 0, gid: 0 } }"#,
            r#"Secret { id: "f", target: Some("/f"), env: Some("F"), required: false, owner: Owner { mode: 256, uid: 0, gid: 0 } }"#,
            r#"Secret { id: "n", target: Some("/k/n"), env: None, required: true, owner: Owner { mode: 288, uid: 7, gid: 0 } }"#,
            concat!(
                r#"Cache { id: "/w/c", sharing: Locked, origin: Scratch, source: "/", target: "/w/c", read_only: false, "#,
                r#"owner: Owner { mode: 493, uid: 0, gid: 5 } }"#
            ),
            r#"Bind { origin: Image("img"), source: "/", target: "/q r", writable: false }"#,
            r#"Bind { origin: Context, source: "/", target: "/v,w", writable: false }"#,
        ]
    );
}

#[test]
fn ports_and_signals_are_checked_and_written_in_one_form() {
    let (_, state) = built("FROM a\nARG P=\"81 82\"\nEXPOSE 80 $P 127.0.0.1:9:90/TCP 8000-8002/udp [::1]:1:91\nSTOPSIGNAL rtmin+3\n");
    let ports: Vec<&str> = state.image.config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["80/tcp", "8000/udp", "8001/udp", "8002/udp", "81/tcp", "82/tcp", "90/tcp", "91/tcp"]);
    for port in ["x", "70000", "5-4", "80/foo", "1.2.3:1:80", "/tcp", "+80", "80:"] {
        assert!(error(&format!("FROM a\nEXPOSE {port}\n")).contains("line 2: EXPOSE: "), "{port}");
    }
    assert!(error("FROM a\nSTOPSIGNAL SIGFOO\n").contains("there is no signal"));
}

#[test]
fn healthchecks_keep_times_or_say_none() {
    let (_, state) = built("FROM a\nHEALTHCHECK --timeout=1m30s --start-period=500ms --start-interval=1.5s CMD [\"c\", \"d\"]\n");
    let line = r#"0 HEALTHCHECK &{["CMD" "c" "d"] "0s" "1m30s" "500ms" "1.5s" '\x00'}"#;
    assert_eq!(history(&state), [line]);
    let (_, state) = built("FROM a\nHEALTHCHECK none\n");
    assert_eq!(state.image.config.healthcheck.map(|health| health.test), Some(vec!["NONE".to_owned()]));
    for wrong in
        ["--interval=1us CMD x", "--interval=5 CMD x", "--retries=-1 CMD x", "CMD", "NONE x", "x", "CMD []", "--interval=9999999999h CMD x"]
    {
        assert!(error(&format!("FROM a\nHEALTHCHECK {wrong}\n")).contains("line 2: HEALTHCHECK: "), "{wrong}");
    }
}

#[test]
fn copies_stay_in_their_origin() {
    let text = "FROM x AS a\nFROM y\nCOPY --from=0 ../../etc/passwd /../p\nCOPY --from=img:1 [\"a b\", \"/c d/\"]\nADD http://h/f.tgz a.tgz .\nCOPY a/../../b c/../../d\n";
    let (steps, _) = built(text);
    let shown: Vec<String> =
        copies(&steps).iter().map(|copy| format!("{:?} {:?} {} {}", copy.origin, copy.sources, copy.destination, copy.unpack)).collect();
    assert_eq!(
        shown,
        [
            r#"Stage(0) [Path("/etc/passwd")] /p false"#,
            r#"Image("img:1") [Path("/a b")] /c d/ false"#,
            r#"Context [Url("http://h/f.tgz"), Path("/a.tgz")] / true"#,
            r#"Context [Path("/b")] /d false"#,
        ]
    );
}

#[test]
fn a_digest_is_for_one_url_and_may_be_a_variable() {
    let digest = "a".repeat(64);
    let (steps, state) = built(&format!("FROM a\nARG D={digest}\nADD --checksum=sha256:$D http://h/f /f\n"));
    assert_eq!(copies(&steps)[0].checksum.map(|digest| digest.to_string()), Some(digest.clone()));
    assert_eq!(history(&state)[1], "L ADD http://h/f /f # buildkit");
    for sources in ["a", "http://h/a http://h/b", "http://h/a b"] {
        let said = error(&format!("FROM a\nADD --checksum=sha256:{digest} {sources} /d/\n"));
        assert!(said.contains("line 2: ADD: --checksum is for one URL"), "{sources}: {said}");
    }
}

#[test]
fn a_url_names_the_file_that_it_becomes() {
    let cases = [
        ("http://h/a/b.tgz", Some("b.tgz")),
        ("http://h/a/b/?q=/c#/d", Some("b")),
        ("https://h/a%20b%2Fc%c3%a4", Some("cä")),
        ("http://h/100%", Some("100%")),
        ("http://h/", None),
        ("http://h", None),
        ("http://h?a/b", None),
        ("http://h/a/..", None),
        ("http://h/%00", None),
        ("http://h/%ff", None),
    ];
    for (url, name) in cases {
        assert_eq!(super::values::url_name(url).as_deref(), name, "{url}");
    }
}

/// Each line: a Dockerfile after `FROM a`, what is wrong, and the start of the hint.
#[test]
fn what_is_not_supported_names_line_and_instruction_and_what_to_do() {
    let cases = [
        ("ONBUILD RUN x", "line 2: ONBUILD: it is not supported", "write the instruction into"),
        ("RUM x", "line 2: RUM: there is no such instruction", "did you mean RUN?"),
        ("CPOY a b", "line 2: CPOY: there is no such instruction", "did you mean COPY?"),
        ("&& make", "line 2: &&: there is no such instruction", "if it belongs to the line before"),
        ("COPY --link a b", "line 2: COPY: the flag --link is not known", "remove it"),
        ("ADD --parents a b", "line 2: ADD: the flag --parents is not known", "only COPY knows"),
        ("COPY --parent a b", "line 2: COPY: the flag --parent is not known", "COPY knows"),
        ("ADD --checksum=sha256:0 http://h/a b", "line 2: ADD: --checksum=sha256:0 is no digest", "write sha256:"),
        ("COPY --checksum=sha256:0 a b", "line 2: COPY: the flag --checksum is not known", "only ADD"),
        ("ADD http://u:p@h/?x=/y b/", "line 2: ADD: http://…@h/?… names no file, and b/ is a folder", "name the file"),
        ("ADD https://h .", "line 2: ADD: https://h names no file, and . is a folder", "name the file"),
        ("ADD http://h/x.git b", "line 2: ADD: http://h/x.git is a repository of Git", "clone it"),
        ("RUN --security=insecure x", "line 2: RUN: the flag --security is not known", "remove it"),
        ("RUN --mount=type=foo x", "line 2: RUN: the mount type \"foo\" is not supported", "use bind"),
        ("RUN --mount=tipe=bind x", "line 2: RUN: the mount field \"tipe\" is not known", "a mount knows"),
        ("RUN --mount=target=/ x", "line 2: RUN: a mount cannot hide the whole root", "write target="),
        ("RUN --mount=target=/a,size=1m x", "line 2: RUN: size does not go with a mount of type bind", "remove size"),
        ("RUN --mount=type=secret x", "line 2: RUN: the secret has no name", "write --mount=type=secret,id=NAME"),
        ("RUN --network=foo x", "line 2: RUN: there is no network \"foo\"", "use default"),
        ("RUN --network=none --network=host x", "line 2: RUN: --network is there twice", "keep one"),
        ("RUN --mount x", "line 2: RUN: --mount has no value", "write --mount=VALUE"),
        ("COPY a", "line 2: COPY: it needs a source and a destination", "write for example"),
        ("COPY a <<EOF\nEOF", "line 2: COPY: a heredoc cannot be the destination", "name the file"),
        ("COPY --from=$X a b", "line 2: COPY: --from=$X cannot hold variables", "define a stage"),
        ("COPY --from=0 a b", "line 2: COPY: the stage 0 does not come before", "move its FROM"),
        ("COPY --from=5 a b", "line 2: COPY: there is no stage 5", "the stages are 0 to 0"),
        ("COPY http://x/y b", "line 2: COPY: http://x/y is a URL", "use ADD"),
        ("ADD https://x/y.git#main b", "line 2: ADD: https://x/y.git#main is a repository of Git", "clone it"),
        ("COPY --chmod=u!x a b", "line 2: COPY: --chmod=u!x is not a mode", "write it in octal"),
        ("ENV A", "line 2: ENV: A has no value", "write for example ENV NAME=value"),
        ("ENV A=1 b", "line 2: ENV: b has no =", "put quotes"),
        ("ENV =1", "line 2: ENV: =1 has no name", "write for example"),
        ("ENV A=${B^c}", "line 2: ENV: the form ${B^…} is not known", "use ${A}"),
        ("ENV A='b", "line 2: ENV: a ' is not closed", "write the '"),
        ("SHELL /bin/bash", "line 2: SHELL: it has to be a list", "write it as SHELL"),
        ("RUN []", "line 2: RUN: the list is empty", "write for example"),
        ("WORKDIR", "line 2: WORKDIR: it names no folder", "write for example WORKDIR /srv"),
        ("USER --x a", "line 2: USER: the flag --x is not known", "remove it; this"),
        ("VOLUME []", "line 2: VOLUME: it names no folder", "write for example"),
        ("ENV A=1\nFROM $A AS 1x", "line 3: FROM: a stage cannot be named \"1x\"", "start it with a letter"),
        ("FROM $NONE", "line 2: FROM: the base $NONE is empty", "give $NONE a default"),
        ("FROM a b", "line 2: FROM: it takes IMAGE or IMAGE AS NAME", "write for example"),
        ("FROM --platform=a/b/c/d a", "line 2: FROM: --platform=a/b/c/d is no platform", "write for example"),
    ];
    for (text, what, hint) in cases {
        let found = error(&format!("FROM a\n{text}\n"));
        let (found_what, found_hint) = found.split_once(" -> ").expect("two parts");
        assert!(found_what.starts_with(&format!("Dockerfile {what}")) && found_hint.starts_with(hint), "{text}:\n  {found}");
    }
    let whole = [
        ("", "the Dockerfile has no FROM"),
        ("# only a comment\n", "the Dockerfile has no FROM"),
        ("RUN x\nFROM a\n", "Dockerfile line 1: RUN: it stands before the first FROM"),
        ("# escape=x\nFROM a\n", "Dockerfile line 1: escape cannot be \"x\""),
        ("# escape=`\n# escape=`\nFROM a\n", "Dockerfile line 2: the directive escape is there twice"),
        ("# syntax=me/mockerfile\nFROM a\n", "Dockerfile line 1: the front end \"me/mockerfile\" is not run here"),
        ("FROM a\nRUN a\0b\n", "Dockerfile line 2: there is a zero byte"),
        ("FROM a\n\\\n", "Dockerfile line 2: the line is continued and nothing follows"),
    ];
    for (text, what) in whole {
        assert!(error(text).starts_with(what), "{text:?}: {}", error(text));
    }
    let long = error(&format!("FROM a\n\x1b[2J{}\n", "x".repeat(60_000)));
    assert!(long.len() < 1000 && !long.contains('\x1b'), "what a file says does not reach the terminal as it is: {long}");
    let error = Dockerfile::parse(b"FROM a\nRUN \xff\n").expect_err("not UTF-8");
    assert_eq!(error.what(), "Dockerfile line 2: it is not UTF-8");
}

#[test]
fn what_is_too_much_is_refused() {
    let cases = [
        format!("FROM a\n#{}\n", "x".repeat(MAX_BYTES)),
        format!("FROM a\nRUN {}\n", "x".repeat(MAX_LINE)),
        "FROM a\n".repeat(MAX_STAGES + 1),
        format!("FROM a\n{}", "USER a\n".repeat(MAX_INSTRUCTIONS)),
        format!("FROM a\nRUN {}\n{}", "<<A ".repeat(MAX_HEREDOCS + 1), "A\n".repeat(MAX_HEREDOCS + 1)),
        format!("FROM a\nENV A=0123456789\n{}", "ENV A=$A$A\n".repeat(40)),
        format!("FROM a\nENV A={}\n{}", "x".repeat(60_000), "ENV A=$A\n".repeat(1000)),
        format!("FROM a\n{}", (0..=MAX_VARIABLES).map(|i| format!("ENV A{i}=\n")).collect::<String>()),
        format!("FROM a\nEXPOSE {}\n", "1-65535 ".repeat(1000)),
    ];
    for text in cases {
        let error = build(&text, &[]).expect_err("too much");
        assert!(error.what().contains("more than") && error.hint_text().is_some(), "{error}");
    }
}

/// Mutates Dockerfiles: whatever comes out is read, or refused with a hint, and nothing panics.
#[test]
fn no_dockerfile_makes_the_parser_panic() {
    let seeds = [
        "# escape=`\nARG A=1\nFROM --platform=linux/arm a:${A:-2} AS b\nENV A=$A B=\"${C:+$D}\" `\n# c\n\nE='f'\nRUN --mount=type=cache,target=/x,id=$A x\n",
        "FROM a\nCOPY --from=b --chown=1:2 --chmod=755 <<EOF <<-'X' y /z/\n$A\nEOF\n\tx\n\tX\nRUN <<EOF cat\n#!x\nEOF\n",
        "FROM a AS a\nHEALTHCHECK --interval=1.5s --retries=3 CMD [\"a\"]\nEXPOSE 80-90/udp 1.2.3.4:5:6\nVOLUME [\"/a\"]\nLABEL a=b \"c\"=d\nSTOPSIGNAL 9\n",
        "FROM scratch\nADD http://x/y a /b\nWORKDIR ../x\nUSER $U\nSHELL [\"a\"]\nCMD a\nENTRYPOINT [\"b\"]\nRUN --mount=type=secret,\"id=a\"\"b\",mode=0400 x\nADD --chown=a b c/\n",
    ];
    let pieces = [
        "\\",
        "`",
        "\n",
        "\r\n",
        "<<",
        "<<-EOF",
        "EOF",
        "$",
        "${",
        "}",
        ":-",
        "'",
        "\"",
        "[",
        "]",
        "--",
        "=",
        "#",
        "é",
        "\u{feff}",
        "\u{2028}",
        " ",
        "\t",
        "FROM a\n",
        "--mount=",
        "18446744073709551616",
        "-",
        "%",
        "\0",
        ",",
        "${A:-",
        "from=",
        "\u{85}",
    ];
    seeds.iter().for_each(|seed| drop(built(seed)));
    let mut random: u64 = 0x2545_f491_4f6c_dd1d;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below.max(1) as u64).expect("small")
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..10_000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..next(5) {
            let at = next(bytes.len() + 1);
            let end = (at + next(12)).min(bytes.len());
            match next(5) {
                0 => drop(bytes.drain(at..end)),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, u8::try_from(next(256)).expect("a byte")),
                3 => {
                    let copied = bytes[at..end].to_vec();
                    let to = next(bytes.len() + 1);
                    bytes.splice(to..to, copied);
                }
                _ => {
                    let piece = pieces[next(pieces.len())];
                    bytes.splice(at..at, piece.bytes());
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = Dockerfile::parse(&bytes);
        match build(&text, &[("A", "${B"), ("U", "a b")]) {
            Ok((_, state)) => {
                read += 1;
                let json = state.image.to_json().expect("json");
                assert_eq!(ImageConfig::from_json(&json).expect("what was written is read"), state.image);
            }
            Err(error) => {
                refused += 1;
                assert!(error.hint_text().is_some(), "{error}\n{text}");
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}

#[test]
fn what_an_instruction_sets_is_not_seen_in_it() {
    let (steps, state) = built("ARG G=g H=$G\nFROM a\nARG C=c D=$C\nENV E=e F=$E\nARG C=d D=$C\nARG G H\nRUN x\n");
    let env = &runs(&steps)[0].env;
    let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((value("C"), value("D"), value("E"), value("F")), (Some("d"), Some("c"), Some("e"), Some("")));
    assert_eq!(value("H"), Some("g"), "those before FROM are set one after the other");
    assert_eq!(history(&state)[0], "0 ARG C=c D=");
}

#[test]
fn an_agent_of_ssh_has_a_socket_and_a_variable_that_no_image_has() {
    let (steps, state) =
        built("FROM a\nRUN --mount=type=ssh --mount=type=ssh,id=x,required,uid=7 --mount=type=ssh,target=/s,mode=0666 a\nRUN b\n");
    let runs = runs(&steps);
    let shown: Vec<String> = runs[0].mounts.iter().map(|mount| format!("{mount:?}")).collect();
    assert_eq!(
        shown,
        [
            concat!(
                r#"Ssh { id: "default", target: "/run/buildkit/ssh_agent.0", required: false, "#,
                r#"owner: Owner { mode: 384, uid: 0, gid: 0 } }"#
            ),
            r#"Ssh { id: "x", target: "/run/buildkit/ssh_agent.1", required: true, owner: Owner { mode: 384, uid: 7, gid: 0 } }"#,
            r#"Ssh { id: "default", target: "/s", required: false, owner: Owner { mode: 438, uid: 0, gid: 0 } }"#,
        ]
    );
    let agent = |run: usize| runs[run].env.iter().find(|(name, _)| name == "SSH_AUTH_SOCK").map(|(_, value)| value.as_str());
    assert_eq!((agent(0), agent(1)), (Some("/run/buildkit/ssh_agent.0"), None));
    assert!(!history(&state).concat().contains("ssh_agent"));
    for wrong in ["type=ssh,source=x", "type=ssh,env=X", "type=cache,target=/x,env=X", "type=secret,id=a,env=A=B", "type=secret,id=a,env"] {
        assert!(error(&format!("FROM a\nRUN --mount={wrong} true\n")).contains("line 2: RUN: "), "{wrong}");
    }
}

#[test]
fn what_is_excluded_and_which_folders_are_kept_is_in_the_step() {
    let text = "FROM a\nARG T=*.txt\nCOPY --parents --exclude=$T --exclude=!b.txt ./x/a.txt /usr/./lib/../bin/. ../y*/./**/z/ . /p/\n\
        ADD --exclude=out --chmod=u+x,go=u-w dir /d/\n";
    let (steps, state) = built(text);
    let copies = copies(&steps);
    assert_eq!(copies[0].exclude, ["*.txt", "!b.txt"]);
    let parents = |root: &str, only: &str| Source::Parents { root: root.into(), only: only.into() };
    assert_eq!(copies[0].sources, [parents("/", "x/a.txt"), parents("/usr", "bin"), parents("/y*", "**/z"), parents("/", "")]);
    assert!(matches!(&copies[1].chmod, Some(Chmod::Changes { text, .. }) if text == "u+x,go=u-w"));
    assert_eq!(
        history(&state)[1..],
        ["L COPY --parents ./x/a.txt /usr/./lib/../bin/. ../y*/./**/z/ . /p/ # buildkit", "L ADD --chmod=u+x,go=u-w dir /d/ # buildkit"]
    );
    for wrong in [
        "ADD --parents a /b/",
        "COPY --parents=maybe a /b/",
        "COPY --parents --parents a /b/",
        "COPY --chmod=u!x a /b",
        "COPY --exclude a /b",
    ] {
        assert!(error(&format!("FROM a\n{wrong}\n")).contains("line 2: "), "{wrong}");
    }
}
