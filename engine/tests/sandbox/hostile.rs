//! What somebody tries who owns everything in a container: its root, its layers, its pipes.

use super::*;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Runs a program of perl's, which knows system calls by their numbers; gives what it prints. The machine's `/usr` is mounted for that.
fn perl(place: &Place, root: &Root, network: Network, program: &str) -> Vec<String> {
    let usr = Mount::Bind { source: "/usr".into(), target: "/usr".into(), read_only: true };
    let script =
        "for name in lib lib64; do test -e /$name || /bin/busybox ln -s usr/$name /$name; done; exec /usr/bin/perl -MSocket -e \"$0\"";
    let cmd = ["/bin/sh", "-c", script, program].map(String::from);
    let (code, lines) = place.run_job(Job { cmd: &cmd, network, mounts: &[usr], ..job(root) });
    assert_eq!(code, 0, "{lines:?}");
    lines
}

#[test]
fn nothing_that_this_program_was_given_open_is_open_in_a_container() {
    let place = Place::new("descriptors");
    let root = place.root();
    // As a shell or `make` leaves files open to what it starts.
    let leaked = fs::File::open(&place.dir).expect("a folder");
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).expect("a flag");
    let open = place.says(&root, "cd /proc/self/fd; for fd in *; do echo $fd $(readlink $fd); done");
    drop(leaked);
    // (The last one is the shell's own, of `*`, and may be gone.)
    assert!(
        open.iter().all(|line| ["0 /dev/null", "1 pipe:", "2 pipe:"].iter().any(|known| line.starts_with(known)) || !line.contains('/')),
        "{open:?}"
    );
    assert!(!open.iter().any(|line| line.contains(&*place.dir.to_string_lossy())), "{open:?}");
    // There is no terminal to type into.
    assert_ne!(place.run(&root, ": < /dev/tty").0, 0);
    // What the caller's environment holds is none of a container's, nor of its first process's.
    let environment = place.says(&root, "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | cut -d= -f1 | sort -u");
    for name in &environment {
        let known = ["PATH", "HOME", "HOSTNAME", "PWD", "SHLVL", "OLDPWD", "LD_LIBRARY_PATH", "_"];
        assert!(known.contains(&&**name), "{environment:?}");
    }
}

#[test]
fn a_command_can_write_to_its_outputs_by_name() {
    let place = Place::new("outputs");
    let root = place.root();
    let mut said = place.says(&root, "echo out > /dev/stdout; echo err > /dev/stderr");
    said.sort();
    assert_eq!(said, ["err", "out"]);
    let cmd = ["sh", "-c", "echo out > /dev/stdout"].map(String::from);
    assert_eq!(place.run_job(Job { cmd: &cmd, user: "ann", ..job(&root) }), (0, vec!["out".to_string()]));
}

#[test]
fn the_command_is_the_first_process_and_sees_none_of_ours() {
    let place = Place::new("first");
    let root = place.root();
    let seen = "echo $$; cut -d' ' -f4 /proc/1/stat; for pid in /proc/[0-9]*; do readlink $pid/exe; done | sort -u; ls /proc/1/task";
    for network in [Network::None, Network::Bridge, Network::Host] {
        let (_, lines) = place.run_job(Job { cmd: &["sh", "-c", seen].map(String::from), network, ..job(&root) });
        assert_eq!(lines, ["1", "0", "/bin/busybox", "1"], "{network}");
    }
    // Nor can it become one that outlives whoever started it: it may forget its parent's death.
    let program = "syscall(157, 1, 0); exec('/bin/busybox', 'sleep', '7531') if !fork; sleep 1; print \"left\\n\"";
    assert_eq!(perl(&place, &root, Network::None, program), ["left"]);
    assert_eq!(processes_of("7531"), [""; 0]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_that_dockers_profile_forbids_are_forbidden() {
    let place = Place::new("calls");
    let root = place.root();
    let forbidden = [
        ("unshare", "272, 0x10000000"),
        ("clone with CLONE_NEWUSER", "56, 0x10000011, 0, 0, 0, 0"),
        ("setns", "308, 0, 0"),
        ("mount", "165, 0, 0, 0, 0, 0"),
        ("open_tree", "428, -100, 0, 0"),
        ("fsopen", "430, 0, 0"),
        ("pivot_root", "155, 0, 0"),
        ("add_key", "248, 0, 0, 0, 0, 0"),
        ("request_key", "249, 0, 0, 0, 0"),
        ("keyctl", "250, 0, 0, 0, 0, 0"),
        ("bpf", "321, 0, 0, 0"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0"),
        ("userfaultfd", "323, 0"),
        ("io_uring_setup", "425, 1, 0"),
        ("open_by_handle_at", "304, 0, 0, 0"),
        ("kcmp", "312, 1, 1, 0, 0, 0"),
        ("socket of AF_VSOCK", "41, 40, 1, 0"),
        ("personality ADDR_NO_RANDOMIZE", "135, 0x40000"),
        ("kexec_load", "246, 0, 0, 0, 0"),
        ("init_module", "175, 0, 0, 0"),
        ("finit_module", "313, 0, 0, 0"),
        ("delete_module", "176, 0, 0"),
        ("syslog", "103, 3, 0, 0"),
        ("fanotify_init", "300, 0, 0"),
        ("quotactl", "179, 0, 0, 0, 0"),
        ("getpid of x32", "0x40000027"),
    ];
    let tries: String = forbidden
        .iter()
        .map(|(name, call)| format!("$! = 0; $r = syscall({call}); $r < 0 && $! == 1 or print \"{name}: $r $!\\n\"; exit if $$ != $me;"))
        .collect();
    let clone3 = "$! = 0; syscall(435, 0, 0) < 0 && $! == 38 or print \"clone3: $!\\n\"";
    let said = perl(&place, &root, Network::None, &format!("$me = $$; {tries} {clone3}; print \"tried\\n\""));
    assert_eq!(said, ["tried"]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn no_call_reserves_room_on_the_disk() {
    let place = Place::new("reserve");
    let root = place.root();
    // fallocate in every mode that may take blocks, also with bits that the kernel does not look at; the same as an ioctl. (Little is
    // asked for, should it be given.)
    let program = r#"
        open(F, "+>", "/tmp/file") or die; syswrite(F, "x" x 8192); $fd = fileno(F); $many = 1 << 20;
        for $mode (0, 1, 2, 4, 16, 17, 32, 64, 65, 128, 1 << 32) {
            $! = 0; syscall(285, $fd, $mode, 0, $many) < 0 && $! == 95 or print "mode $mode: $!\n";
        }
        $space = pack("s s x4 q q l L l4", 0, 0, 0, $many, 0, 0, 0, 0, 0, 0);
        for $request (0x40305828, 0x4030582a, 0x40305839) {
            $! = 0; syscall(16, $fd, $request, $space) < 0 && $! == 95 or printf "request %x: $!\n", $request;
        }
        -s F == 8192 or print "it grew\n";
        syscall(285, $fd, 3, 0, 4096) == 0 or print "a hole: $!\n";
        # What programs do who ask for it by the C library, or do not need it.
        system("/usr/bin/fallocate", "--posix", "--length", "1048576", "/tmp/written") == 0 && -s "/tmp/written" == 1048576
            or print "not written\n";
        print "tried\n";
    "#;
    assert_eq!(perl(&place, &root, Network::None, program), ["tried"]);
}

/// Paths of the machine's sockets: of those that are listened on, and of those that engines usually have.
#[cfg(target_arch = "x86_64")]
fn sockets() -> Vec<String> {
    let usual = [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/user/0/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/tmp/.X11-unix/X0",
    ];
    let listed = fs::read_to_string("/proc/net/unix").expect("/proc");
    let listed = listed.lines().filter_map(|line| line.split_whitespace().nth(7)).filter(|path| path.starts_with('/'));
    // (Where no program of Perl's must quote anything.)
    let plain = |path: &&str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:".contains(&byte));
    usual.into_iter().chain(listed.filter(plain)).map(String::from).collect()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn sockets_of_the_machine_that_have_a_path_are_not_seen() {
    let place = Place::new("sockets");
    let root = place.root();
    let name = format!("twostage-test-{}.sock", std::process::id());
    let mut ours = vec![std::env::temp_dir().join(&name), place.path("sock")];
    if rustix::process::geteuid().is_root() {
        ours.push(Path::new("/run").join(&name));
    }
    let listeners: Vec<_> = ours.iter().map(|path| UnixListener::bind(path).expect("a socket")).collect();
    let paths = sockets();
    for path in &ours {
        assert!(paths.iter().any(|other| Path::new(other) == path), "{} is among {paths:?}", path.display());
        std::os::unix::net::UnixStream::connect(path).expect("out here it is reached");
    }
    let list = paths.join(" ");
    let program = format!(
        r#"for $path (qw({list})) {{ for $way ("", "/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd/../../..") {{
            -e "$way$path" and print "$way$path is seen\n";
            socket(S, AF_UNIX, SOCK_STREAM, 0) or die;
            length("$way$path") < 108 and connect(S, pack("S a*", 1, "$way$path\0")) and print "$way$path is reached\n";
        }} }} print "tried\n";"#
    );
    let seen = "find / -type s 2>/dev/null; true";
    for network in [Network::None, Network::Host] {
        assert_eq!(perl(&place, &root, network, &program), ["tried"]);
        let (_, lines) = place.run_job(Job { cmd: &["sh", "-c", seen].map(String::from), network, ..job(&root) });
        assert_eq!(lines, [""; 0]);
    }
    drop(listeners);
    ours.iter().for_each(|path| fs::remove_file(path).expect("ours"));
}

#[test]
fn a_secret_ends_with_the_command_that_was_given_it() {
    let place = Place::new("secret");
    let root = place.root();
    let secret = b"not-for-anybody-else".to_vec();
    let mounts = [Mount::Secret { bytes: secret.clone(), target: "/run/secrets/token".into(), mode: 0o444, uid: 0, gid: 0 }];
    // What it leaves has the secret open and in its environment, is in a session of its own, whose parents are gone, and heeds no
    // signal. A second after the command has ended, it would write the secret down.
    let stays = "trap '' HUP INT QUIT TERM; exec 3</run/secrets/token; touch /ready; while kill -0 $1; do sleep 0.1; done; \
        sleep 1; cat <&3 >/stolen; cat /run/secrets/token >>/stolen; sleep 100";
    let script = "cp /run/secrets/token /dev/shm/kept; export TOKEN=$(cat /run/secrets/token); \
        (setsid sh -c \"$0\" 8642 $$ >/dev/null 2>&1 &); until test -e /ready; do sleep 0.1; done";
    let cmd = ["/bin/sh", "-c", script, stays].map(String::from);
    assert_eq!(place.run_job(Job { cmd: &cmd, mounts: &mounts, ..job(&root) }), (0, Vec::new()));
    assert_eq!(processes_of("8642"), [""; 0]);
    std::thread::sleep(Duration::from_millis(2500));
    // (The words are written so that looking for them is not found.)
    let look = "exec 2>/dev/null; ls /run/secrets/token /dev/shm/kept /stolen; grep -l 'not-for-anybody[-]else' /proc/[0-9]*/environ /proc/[0-9]*/cmdline; \
        grep -l '864[2]' /proc/[0-9]*/cmdline; grep -rl 'not-for-anybody[-]else' /ready /bin /dev/shm /etc /home /root /run /tmp /var; true";
    assert_eq!(place.says(&root, look), [""; 0]);
    let tar = place.packed(&root);
    assert_eq!(dump(&tar), ["0 0644 0:0 ready"]);
    assert!(!tar.windows(secret.len()).any(|window| window == secret));
}

#[test]
fn sockets_of_the_machine_without_a_path_are_not_reached() {
    let place = Place::new("abstract");
    let root = place.root();
    let name = format!("twostage-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("a socket");
    let program = format!(
        r#"socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack("S a*", 1, "\0{name}")) ? "connected\n" : "refused\n";
        socket(L, AF_UNIX, SOCK_STREAM, 0); bind(L, pack("S a*", 1, "\0{name}-own")) and listen(L, 1) or print "no socket: $!\n";
        socket(C, AF_UNIX, SOCK_STREAM, 0); connect(C, pack("S a*", 1, "\0{name}-own")) or print "its own: $!\n";"#
    );
    assert_eq!(perl(&place, &root, Network::Host, &program), ["refused"]);
    assert_eq!(perl(&place, &root, Network::None, &program), ["refused"]);
    drop(listener);
}

#[test]
fn what_hides_the_machine_cannot_be_led_elsewhere() {
    let place = Place::new("elsewhere");
    let mut root = place.root();
    // An image whose /sys and /proc are links.
    let links = Tar::new().dir("a/", 0o755).dir("b/", 0o755).link("sys", "a").link("proc", "b").end();
    place.sandbox.unpack(&links[..], &place.path("links")).expect("it unpacks");
    root.lowers.push(place.path("links"));
    let seen = "ls /a/fs/cgroup /a/firmware; cat /b/kcore /b/keys /b/timer_list 2>/dev/null; for f in /b/sys/kernel/core_pattern /b/sysrq-trigger; do \
        test ! -e $f || (echo x > $f) 2>/dev/null && echo $f; done; true";
    match runtime()
        .block_on(place.sandbox.run(Job { cmd: &["sh", "-c", seen].map(String::from), ..job(&root) }, &mut |line: &str| panic!("{line}")))
    {
        Ok(code) => assert_eq!(code, 0),
        Err(error) => assert!(error.to_string().contains("link"), "{error}"),
    }
    // A mount of a Dockerfile over what is looked at when things are hidden.
    let root = place.root();
    let fake = Tar::new().dir("self/", 0o755).file("self/mountinfo", 0o644, b"").dir("sys/", 0o755).end();
    place.sandbox.unpack(&fake[..], &place.path("fake")).expect("it unpacks");
    let fake = Root { lowers: vec![place.path("fake")], ..Root::default() };
    let cmd = ["sh", "-c", "ls /sys/fs/cgroup"].map(String::from);
    for target in ["/proc", "/proc/sys", "/sys", "/sys/fs", "/tmp/../proc", "/way/self"] {
        place.sandbox.put(&root, &Tar::new().link("way", "proc").end()[..], true).expect("a link");
        let mounts = [Mount::Tree { source: fake.clone(), path: "/".into(), target: target.into(), read_only: true }];
        let mut lines = Vec::new();
        let ended = runtime()
            .block_on(place.sandbox.run(Job { cmd: &cmd, mounts: &mounts, ..job(&root) }, &mut |line: &str| lines.push(line.to_string())));
        assert!(ended.is_err_and(|error| error.to_string().contains("cannot mount")), "{target}: {lines:?}");
    }
}

#[test]
fn control_groups_of_the_machine_cannot_be_seen_or_changed() {
    let place = Place::new("groups");
    let root = place.root();
    for network in [Network::None, Network::Host] {
        let cmd =
            ["sh", "-c", "ls /sys/fs/cgroup; cut -d: -f3 /proc/self/cgroup | sort -u; touch /sys/fs/cgroup/x 2>/dev/null && echo made"]
                .map(String::from);
        let (_, lines) = place.run_job(Job { cmd: &cmd, network, ..job(&root) });
        assert_eq!(lines, ["/"]);
    }
}

#[test]
fn a_layer_cannot_say_another_thing_in_its_tar_than_in_its_folder() {
    let place = Place::new("dot-wh");
    let root = place.root();
    place.says(&root, "mkdir d; echo x > d/.wh.passwd");
    let mut tar = Vec::new();
    let packed = place.sandbox.pack(&root).expect("packing starts").read_to_end(&mut tar);
    assert!(packed.is_err_and(|error| error.to_string().contains(".wh.")), "{:?}", dump(&tar));
}

#[test]
fn a_flood_of_output_is_only_as_much_as_somebody_reads() {
    let place = Place::new("flood");
    let root = place.root();
    let cmd = ["sh", "-c", "head -c 30000000 /dev/zero; echo; printf 'end'"].map(String::from);
    let (mut longest, mut last) = (0, String::new());
    let mut on_line = |line: &str| {
        longest = longest.max(line.len());
        last = line.to_string();
    };
    runtime().block_on(place.sandbox.run(Job { cmd: &cmd, ..job(&root) }, &mut on_line)).expect("it ends");
    assert!(longest <= 8 << 10);
    assert_eq!(last, "end");
}
