//! `twostage run` as docker users know it: ports, folders of the machine, terminals, signals; and what a RUN may do on its network.

use crate::embedded::Place;
use crate::support::{Done, run};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An image with busybox in it.
fn place(test: &str) -> Place {
    let place = Place::new(test);
    fs::create_dir_all(place.join("context")).expect("a folder");
    fs::copy("/bin/busybox", place.join("context/busybox")).expect("`apt-get install busybox-static` gives /bin/busybox");
    place.image("app", "COPY busybox /bin/busybox\nENTRYPOINT [\"sh\", \"-c\"]\n");
    place
}

fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn a_run_may_listen_on_port_80_and_reaches_nothing_that_listens_on_this_machine_only() {
    let place = place("port-80");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its own").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(b"reached\n"))));
    let steps = format!(
        "COPY busybox /bin/busybox\nRUN set -e; busybox nc -l -p 80 -e true & sleep 0.3; busybox netstat -ltn | busybox grep -q ':80 ' && echo listens > /said\n\
         RUN busybox nc 127.0.0.1 {port} </dev/null >>/said 2>/dev/null; busybox nc -w 2 ::1 {port} </dev/null >>/said 2>/dev/null; true\n\
         RUN --network=none ls /sys/class/net >>/said\nCMD [\"cat\", \"/said\"]\n"
    );
    place.image("built", &steps);
    assert_eq!(place.run(&["run", "built"]).ok().out, "listens\nlo\n");
    // Who asks for the machine's network has it.
    let on_host = ["run", "--network", "host", "--entrypoint", "busybox", "built", "nc", "127.0.0.1", &port.to_string()];
    assert_eq!(place.run(&on_host).ok().out, "reached\n");
    assert_eq!(place.left(), [""; 0].map(std::path::PathBuf::from));
}

/// What a server answers, as soon as it does.
fn asked(port: u16) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.write_all(b"hello\n").and_then(|()| stream.read_to_string(&mut answer).map(drop));
        }
        if !answer.is_empty() || Instant::now() > end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_published_port_is_reached_here_and_leads_to_what_listens_in_the_container() {
    let place = place("publish");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its own").port();
    let server = "busybox nc -l -p 80 -e sh -c 'read word; echo $word from inside; ls /sys/class/net' & wait";
    for (network, links) in [("none", "lo\n"), ("bridge", "eth0\nlo\n")] {
        let child = piped(place.command(&["run", "-p", &format!("{free}:80"), "--network", network, "app", server]));
        assert_eq!(asked(free), format!("hello from inside\n{links}"), "{network}");
        let ended = child.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains(&format!("port 80 of the container is 127.0.0.1:{free}")), "{ended:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its own").port();
    place.run(&["run", "-p", &port.to_string(), "app", "true"]).fails_with(2).says("cannot publish").says("publish another port");
    place.run(&["run", "-p", "80/udp", "app", "true"]).fails_with(2).says("only TCP");
    place.run(&["run", "-p", "80", "--network", "host", "app", "true"]).fails_with(2).says("leave --publish away");
}

#[test]
fn a_folder_of_this_machine_is_seen_where_it_is_asked_for() {
    let place = place("volume");
    let folder = place.join("shared");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
    fs::write(folder.join("in"), "from outside\n").expect("a file");
    let here = folder.display();
    assert_eq!(
        place.run(&["run", "-v", &format!("{here}:/new/place"), "app", "cat /new/place/in; echo back > /new/place/out"]).ok().out,
        "from outside\n"
    );
    assert_eq!(fs::read_to_string(folder.join("out")).ok().as_deref(), Some("back\n"));
    let refused = place.run(&["run", "-v", &format!("{here}/in:/file:ro"), "app", "cat /file; echo x > /file"]);
    assert!(refused.status != 0 && refused.out == "from outside\n" && refused.err.contains("Read-only"), "{}", refused.err);
    place.run(&["run", "-v", "data:/data", "app", "true"]).fails_with(2).says("volumes with names are not there yet");
    place.run(&["run", "-v", "/nowhere-at-all:/data", "app", "true"]).fails_with(2).says("make it first");
    place.run(&["run", "-v", &format!("{here}:/proc"), "app", "true"]).fails_with(4).says("cannot mount at /proc");
    place.run(&["run", "-d", "app", "true"]).fails_with(2).says("--detach is not there yet").says("twostage load");
    assert_eq!(place.run(&["run", "--rm", "--hostname", "box", "app", "hostname 2>/dev/null || cat /etc/hostname"]).ok().out, "box\n");
}

#[test]
fn what_is_written_to_a_run_its_command_reads() {
    let place = place("input");
    let read = |arguments: &[&str], text: &str| {
        let mut child = piped(place.command(arguments));
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it is read");
        String::from_utf8_lossy(&child.wait_with_output().expect("it ends").stdout).into_owned()
    };
    assert_eq!(read(&["run", "-i", "app", "cat; echo end"], "a\nb"), "a\nbend\n");
    assert_eq!(read(&["run", "app", "cat; echo end"], "a\nb"), "end\n", "without -i there is nothing to read");
    // A command that does not read all of it ends all the same.
    let mut child = piped(place.command(&["run", "-i", "app", "exit 3"]));
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
}

/// Runs a command of ours before a terminal of so many rows and columns, with what is typed.
fn on_a_terminal(place: &Place, arguments: &str, typed: &str) -> Done {
    let program = env!("CARGO_BIN_EXE_twostage");
    let script = format!("stty rows 33 cols 77; {program} {arguments}; echo \"status $?\"; stty -a | grep -c -e ' icanon' ");
    let mut command = place.of(Command::new("script"));
    command.args(["-qec", &script, "/dev/null"]).current_dir(place.join(""));
    let mut child = piped(command);
    let mut input = child.stdin.take().expect("a pipe");
    let typed = typed.to_string();
    let typing = std::thread::spawn(move || {
        for line in typed.split_inclusive('\n') {
            std::thread::sleep(Duration::from_millis(1500));
            let _ = input.write_all(line.as_bytes());
        }
        std::thread::sleep(Duration::from_millis(1500));
    });
    let out = child.wait_with_output().expect("it ends");
    typing.join().expect("it was typed");
    let mut done = run(&mut Command::new("true"));
    done.out = String::from_utf8_lossy(&out.stdout).replace('\r', "");
    done
}

#[test]
fn a_command_has_a_terminal_of_its_own_as_large_as_this_one() {
    let place = place("terminal");
    let done =
        on_a_terminal(&place, "run -it app 'busybox tty; busybox stty size; echo $$; read word; echo \"<$word>\"; exit 5'", "typed\n");
    for said in ["/dev/pts/0\n33 77\n1\n", "<typed>\n", "status 5\n1\n"] {
        assert!(done.out.contains(said), "{said:?} in {}", done.out);
    }
    // Keys are the command's: Ctrl-C is a signal for what runs there, and not for us.
    let done = on_a_terminal(&place, "run -it app 'trap \"echo caught; exit 6\" INT; echo ready; while :; do sleep 0.1; done'", "\u{3}\n");
    assert!(done.out.contains("caught\n") && done.out.contains("status 6\n1\n"), "{}", done.out);
    let alone = place.run(&["run", "-t", "app", "test -t 0 && test -t 1 && test -t 2 && echo yes"]).ok();
    assert_eq!(alone.out, "yes\r\n");
    place.run(&["run", "-it", "app", "true"]).fails_with(2).says("the standard input is not one");
}

/// Starts a run, and waits for its first line.
fn started(place: &Place, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = piped(place.command(&["run", "app", script]));
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (child, out)
}

fn signal(child: &Child, name: &str) {
    run(Command::new("kill").args(["-s", name, &child.id().to_string()])).ok();
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn the_command_is_the_first_process_and_gets_the_signals() {
    let place = place("signals");
    let loops = "echo ready; while :; do sleep 0.1; done";
    for (name, status) in [("TERM", 9), ("INT", 9), ("HUP", 9), ("USR1", 9)] {
        let (mut child, mut out) = started(&place, &format!("trap 'echo $$ got it; exit {status}' {name}; {loops}"));
        signal(&child, name);
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("it ends");
        assert_eq!((child.wait().expect("it ends").code(), rest.as_str()), (Some(status), "1 got it\n"), "{name}");
    }
    // One that heeds none, as a first process does without a handler, is ended by the third.
    let (mut child, _out) = started(&place, loops);
    signal(&child, "TERM");
    signal(&child, "TERM");
    assert!(child.try_wait().expect("asked").is_none(), "it goes on");
    signal(&child, "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(8));
    assert_eq!(place.left(), [""; 0].map(std::path::PathBuf::from));
}

#[test]
fn a_command_that_cannot_be_started_says_why_and_ends_as_docker_does() {
    let place = place("refused");
    place.image("users", "RUN touch /plain\n");
    for (options, status, why, hint) in [
        (&["-u", "nosuch", "users", "true"][..], 125, "unable to find user nosuch: no matching entries in passwd file", "/etc/passwd"),
        (&["-u", "0:nosuch", "users", "true"], 125, "unable to find group nosuch: no matching entries in group file", "/etc/group"),
        (&["-w", "/plain", "users", "true"], 125, "chdir to cwd (\"/plain\") failed: not a directory", "a folder of the image"),
        (&["-w", "/nowhere", "users", "true"], 127, "no such file or directory", "a folder that the image has"),
        (&["--entrypoint", "/nosuch", "users"], 127, "exec: \"/nosuch\": no such file or directory", "name a program that the image has"),
        (&["--entrypoint", "nosuch", "users"], 127, "executable file not found in $PATH", "name a program that the image has"),
        (&["--entrypoint", "/plain", "users"], 126, "exec: \"/plain\": permission denied", "chmod +x"),
        (&["--entrypoint", "/etc", "users"], 126, "exec: \"/etc\": is a directory", "a file that this user may execute"),
    ] {
        let done = place.run(&[&["run"], options].concat()).fails_with(status).says("error: cannot start").says(why).says(hint);
        assert_eq!(done.err.matches(why).count(), 1, "{}", done.err);
    }
    // A command may end so itself, whatever it says.
    let own = place.run(&["run", "--entrypoint", "sh", "users", "-c", "echo 'exec: \"x\": no' >&2; exit 127"]).fails_with(127);
    assert!(!own.err.contains("error:"), "{}", own.err);
    let long = "x".repeat(300);
    place.run(&["run", "--hostname", &long, "app", "true"]).fails_with(2).says("64 of them at most");
    place.run(&["run", "--hostname", "a b", "app", "true"]).fails_with(2).says("write letters, digits");
    assert_eq!(place.run(&["run", "--hostname", &long[..64], "app", "hostname"]).ok().out, format!("{}\n", &long[..64]));
}

#[test]
fn where_no_more_processes_may_be_started_that_is_the_hint() {
    let place = place("processes");
    let plain = place.command(&["run", "app", "true"]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nproc=1:1").arg(plain.get_program()).args(plain.get_args());
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(plain.get_current_dir().expect("a folder"));
    let failed = run(&mut limited);
    assert!(failed.status != 0 && failed.err.contains("hint: a limit of processes and threads is reached"), "{}", failed.err);
}

#[test]
fn a_program_of_another_machine_is_told_from_one_that_is_not_there() {
    let place = place("foreign");
    place.image("foreign", "RUN printf '\\177ELF\\2\\1\\1' > /program && chmod 755 /program\nENTRYPOINT [\"/program\"]\n");
    place.run(&["run", "foreign"]).fails_with(126).says("exec format error").says("it is a program for another machine than");
    place.image("bare", "RUN echo 'echo no shell is named' > /program && chmod 755 /program\nENTRYPOINT [\"/program\"]\n");
    place.run(&["run", "bare"]).fails_with(126).says("exec format error").says("or a script without `#!`");
    place.run(&["run", "--memory", "4", "app", "true"]).fails_with(2).says("too little").says("perhaps 4G is meant");
}
