//! `check` of an image that is a server: it must answer before the image is tagged.

use crate::on::{EMBEDDED, On};
use crate::support::{Family, Project, Used, docker, uses};
use std::fs;
use std::net::TcpListener;

const VERDICT: i32 = 1;

#[test]
fn a_server_without_a_daemon_is_tried_before_its_image_is_tagged() {
    uses(Used::Engine);
    server(EMBEDDED, "server-alone");
}

#[test]
fn a_server_on_docker_is_tried_before_its_image_is_tagged() {
    uses(Used::Engine);
    server(On::Docker, "server");
}

/// A busy engine needs a second for a try or two.
const SHORT: &str = "5s";

fn server(on: On, test: &str) {
    let project = Project::quick_on(on, Family::Deb, test, "page");
    fs::copy("/bin/busybox", project.join("busybox")).expect("`apt-get install busybox-static` gives /bin/busybox");
    let toml = format!(
        "{}user = {{ name = \"app\", uid = 1234 }}\nfiles = {{ \"/usr/bin/busybox\" = {{ source = \"busybox\", mode = \"0755\" }} }}\n\
         entrypoint = [\"busybox\"]\ncmd = [\"httpd\", \"-f\", \"-p\", \"127.0.0.1:8080\", \"-h\", \"/usr/share/page\"]\n",
        project.read("twostage.toml")
    );
    let check = |check: &str| {
        project.write("twostage.toml", &format!("{toml}check = {check}\n"));
        project.run(&["runtime"])
    };
    project.write("twostage.toml", &toml);
    project.run(&["repo"]).ok();

    // What the image itself runs. Its first process does not end at SIGTERM.
    let address = "http://127.0.0.1:8080/content";
    check(&format!("{{ until = \"{address}\" }}")).ok().says(&format!("check: {address} answered after")).says("was killed");
    let good = on.id_of(&project.image).expect("an image");
    let again = project.run(&["runtime"]).ok().says("unchanged");
    assert!(!again.err.contains("answered after"), "it is tried once: {}", again.err);

    // Another check is another verdict, of a command of its own, as the image's user.
    let serve = "test $(id -u) = 1234 || exit 9; trap 'echo told to end; exit 0' TERM; busybox httpd -f -p 8080 -h /usr & wait";
    let done = check(&format!("{{ run = [\"sh\", \"-c\", '''{serve}'''], until = \"tcp://localhost:8080\", timeout = \"1m\" }}"));
    let done = done.ok().says("check: tcp://localhost:8080 answered after");
    assert!(!done.err.contains("killed"), "{}", done.err);

    let run = |script: &str, until: &str| {
        let done = check(&format!("{{ run = [\"sh\", \"-c\", '''{script}'''], until = \"{until}\", timeout = \"{SHORT}\" }}"));
        assert_eq!(on.id_of(&project.image).as_deref(), Some(good.as_str()), "the earlier image keeps its name");
        done.fails_with(VERDICT).says("nothing is tagged").says("hint:")
    };
    let done = run("echo cannot open the database; exit 7", address);
    done.says(&format!("ended (exit status 7) before {address} answered")).says("cannot open the database");
    let done = run("exec busybox httpd -f -p 8080 -h /usr", "http://127.0.0.1:8080/nothing");
    done.says("did not answer at http://127.0.0.1:8080/nothing within 5 s").says("it answers with status 404");
    run("echo I sleep; sleep 60", "http://127.0.0.1:8080/").says("I sleep").says("refused");
    run("no-such-program", "tcp://127.0.0.1:8080").says("(exit status 127) before").says("no-such-program");

    // A redirect is an answer and is not followed; and of this machine nothing is reached.
    let here = TcpListener::bind("127.0.0.1:0").expect("a port");
    here.set_nonblocking(true).expect("a socket");
    let port = here.local_addr().expect("its own").port();
    let answer = format!("printf \"HTTP/1.1 302 Found\\r\\nLocation: http://127.0.0.1:{port}/\\r\\n\\r\\n\"");
    let script = format!("while :; do busybox nc -l -p 8080 -e sh -c '{answer}'; done");
    check(&format!("{{ run = [\"sh\", \"-c\", '''{script}'''], until = \"http://127.0.0.1:8080/\", timeout = \"20s\" }}")).ok();
    run("sleep 60", &format!("tcp://127.0.0.1:{port}")).says("refused");
    assert!(here.accept().is_err(), "nobody connected");
    if on == On::Docker {
        let id = project.read(".twostage/id");
        let label = format!("label=twostage.project={}", id.lines().next().expect("its id"));
        let left = docker(&["ps", "--all", "--quiet", "--filter", &label]).ok().out;
        assert_eq!(left, "", "no container of the project is left");
    }
}
