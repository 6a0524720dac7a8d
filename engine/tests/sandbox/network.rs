//! The network of a container: what it reaches, and what it does not.

use super::*;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;

/// Answers every connection with a word, as long as the test runs.
fn says(listener: TcpListener, word: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.write_all(format!("{word}\n").as_bytes());
        }
    });
}

fn listens(address: &str, word: &'static str) -> u16 {
    let listener = TcpListener::bind(address).expect("an address of this machine");
    let port = listener.local_addr().expect("its own").port();
    says(listener, word);
    port
}

fn bridge(root: &Root) -> Job<'_> {
    Job { network: Network::Bridge, ..job(root) }
}

fn shell(script: &str) -> [String; 3] {
    ["/bin/sh", "-c", script].map(String::from)
}

#[test]
fn a_container_has_a_network_of_its_own_where_it_may_listen_on_any_port() {
    let place = Place::new("own-network");
    assert_eq!(place.sandbox.network_cost(), None, "{}", place.sandbox.network());
    let root = place.root();
    // As nginx does it: root, and whoever it becomes, on port 80.
    let script = "nc -l -p 80 -e true & sleep 0.3; netstat -ltn | grep -c ':80 '; cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    for (network, user) in [(Network::Bridge, ""), (Network::Bridge, "ann"), (Network::None, ""), (Network::None, "ann")] {
        let cmd = shell(script);
        assert_eq!(
            place.run_job(Job { cmd: &cmd, user, network, ..job(&root) }),
            (0, ["1", "0"].map(String::from).to_vec()),
            "{network} {user}"
        );
    }
    let cmd = shell("ls /sys/class/net; ip route | grep -c default; ping -c1 -W2 127.0.0.1 >/dev/null && echo itself");
    assert_eq!(place.run_job(Job { cmd: &cmd, ..bridge(&root) }), (0, ["eth0", "lo", "1", "itself"].map(String::from).to_vec()));
    // It cannot change its network.
    for denied in [
        "ip link set eth0 down",
        "ip route del default",
        "ip addr add 10.1.1.1/24 dev eth0",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "ip route del unreachable 169.254.169.254",
    ] {
        let cmd = shell(denied);
        let (code, lines) = place.run_job(Job { cmd: &cmd, ..bridge(&root) });
        assert_ne!(code, 0, "{denied}: {lines:?}");
    }
}

#[test]
fn what_listens_on_this_machine_only_is_not_reached_but_for_a_door() {
    let place = Place::new("door");
    let root = place.root();
    let (four, six) = (listens("127.0.0.1:0", "four"), listens("[::1]:0", "six"));
    let name = format!("twostage-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _unnamed = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
    let gateways = "$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')";
    let script = format!(
        "for at in '127.0.0.1 {four}' '::1 {six}' '127.0.1.1 {four}' '0.0.0.0 {four}' \"{gateways} {four}\" '10.0.2.2 {four}'; do \
         timeout 3 nc $at </dev/null; done; grep -c {name} /proc/net/unix; true"
    );
    let cmd = shell(&script);
    let reached = |lines: &[String]| lines.iter().filter(|line| ["four", "six"].contains(&line.as_str())).count();
    let (_, lines) = place.run_job(Job { cmd: &cmd, ..bridge(&root) });
    // (The two streams of a container are read as they come, in any order.)
    assert_eq!((reached(&lines), lines.iter().any(|line| line == "0")), (0, true), "{lines:?}");
    // On the machine's network it is.
    let (_, lines) = place.run_job(Job { cmd: &cmd, network: Network::Host, ..job(&root) });
    assert!(reached(&lines) > 1, "{lines:?}");

    let doors = [four];
    let cmd = shell(&format!(
        "nc 127.0.0.1 {four} </dev/null; nc 127.0.0.1 {six} </dev/null; nc ::1 {six} </dev/null; nc 127.0.1.1 {four} </dev/null; echo end"
    ));
    let (_, lines) = place.run_job(Job { cmd: &cmd, doors: &doors, ..bridge(&root) });
    assert_eq!(lines.iter().filter(|line| !line.starts_with("nc: ")).collect::<Vec<_>>(), ["four", "end"], "{lines:?}");
    // Nobody else has it.
    let (_, lines) = place.run_job(Job { cmd: &cmd, doors: &doors, network: Network::None, ..job(&root) });
    assert_eq!(reached(&lines), 0, "{lines:?}");
}

#[test]
fn what_a_cloud_tells_its_machines_is_not_reached() {
    let place = Place::new("metadata");
    let root = place.root();
    let cmd = shell(
        "for at in 169.254.169.254 169.254.170.2 168.63.129.16 100.100.100.200; do timeout 2 nc -w1 $at 80 </dev/null 2>&1 | sed 's/.*: //'; done",
    );
    let (_, lines) = place.run_job(Job { cmd: &cmd, ..bridge(&root) });
    assert_eq!(lines, ["Host is unreachable"; 4].map(|_| "No route to host".to_string()), "{lines:?}");
}

#[test]
fn names_are_asked_for_as_this_machine_asks_for_them() {
    let place = Place::new("names");
    let root = place.root();
    let cmd = shell(
        "grep nameserver /etc/resolv.conf; nslookup localhost.twostage.invalid 2>&1 | grep -c -e NXDOMAIN -e \"can't find\" -e SERVFAIL",
    );
    let (_, lines) = place.run_job(Job { cmd: &cmd, ..bridge(&root) });
    assert_eq!(lines[0], "nameserver 127.0.0.11", "{lines:?}");
    assert!(lines.last().is_some_and(|count| count != "0"), "{lines:?}");
}

#[test]
fn a_published_port_leads_into_a_container_that_may_reach_nothing() {
    let place = Place::new("published");
    let root = place.root();
    for network in [Network::None, Network::Bridge] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let here = listener.local_addr().expect("its own");
        let ports = [(listener, 80)];
        let cmd = shell("nc -l -p 80 -e sh -c 'read word; echo inside $word'");
        let asking = std::thread::spawn(move || ask(here, "hello\n"));
        assert_eq!(place.run_job(Job { cmd: &cmd, ports: &ports, network, ..job(&root) }).0, 0, "{network}");
        assert_eq!(asking.join().expect("an answer"), "inside hello\n", "{network}");
    }
}

#[test]
fn what_a_container_said_last_is_passed_on_after_it_has_ended() {
    let place = Place::new("last-words");
    let root = place.root();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its own");
    let ports = [(listener, 80)];
    let size = 4_000_000;
    // More than a connection holds whose other end reads nothing, and less than two hold.
    let cmd = shell(&format!("nc -l -p 80 -e sh -c 'read word; head -c {size} /dev/zero'"));
    let asking = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(60);
        let mut answer = Vec::new();
        while answer.is_empty() && Instant::now() < end {
            let mut stream = TcpStream::connect(at).expect("it listens");
            let mut first = [0];
            if stream.write_all(b"hello\n").and_then(|()| stream.read_exact(&mut first)).is_ok() {
                answer.extend(first);
                std::thread::sleep(Duration::from_secs(1));
                let _ = stream.read_to_end(&mut answer);
            }
        }
        answer.len()
    });
    let (code, _) = place.run_job(Job { cmd: &cmd, ports: &ports, ..job(&root) });
    assert_eq!((code, asking.join().expect("an answer")), (0, size));
}

#[test]
fn a_port_that_has_all_the_connections_it_may_leaves_the_others_theirs() {
    let told = std::env::temp_dir().join(format!("twostage-sandbox-{}-busy-ports", std::process::id()));
    let own = std::env::current_exe().expect("this program");
    // Few open files, as most shells allow.
    let mut child = Command::new("prlimit");
    child.arg("--nofile=1024:1024").arg(own).args(["--ignored", "--exact", "network::two_ports"]).env("TOLD", &told);
    let mut child = child.stdout(std::process::Stdio::null()).spawn().expect("`apt-get install util-linux` gives prlimit");
    until("both ports are there", || told.exists());
    let text = fs::read_to_string(&told).expect("two ports");
    let ports: Vec<SocketAddr> = text.lines().map(|line| line.parse().expect("an address")).collect();
    let fill = |_| TcpStream::connect_timeout(&ports[0], Duration::from_secs(2)).ok();
    let open = format!("/proc/{}/fd", child.id());
    let is_busy = || fs::read_dir(&open).is_ok_and(|files| files.count() > 400);
    let mut held: Vec<Option<TcpStream>> = Vec::new();
    until("it is busy", || {
        // Connections from before the container listened have been closed again: new ones take their places.
        held.clear();
        held.extend((0..600).map(fill).take_while(Option::is_some));
        (0..40).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            is_busy()
        })
    });
    std::thread::sleep(Duration::from_secs(1));
    let answer = ask(ports[1], "hello\n");
    let count = held.len();
    drop(held);
    fs::remove_file(&told).expect("ours");
    assert!(child.wait().expect("our child").success());
    assert_eq!(answer, "inside hello\n", "beside {count}");
}

#[test]
#[ignore = "run by `a_port_that_has_all_the_connections_it_may_leaves_the_others_theirs`"]
fn two_ports() {
    let place = Place::new("busy");
    let root = place.root();
    let [busy, other] = ["127.0.0.1:0"; 2].map(|at| TcpListener::bind(at).expect("a port"));
    let text: String = [&busy, &other].map(|one| format!("{}\n", one.local_addr().expect("its own"))).concat();
    let told = PathBuf::from(std::env::var_os("TOLD").expect("set by the other test"));
    fs::write(told.with_extension("new"), text).and_then(|()| fs::rename(told.with_extension("new"), told)).expect("a file");
    let ports = [(busy, 80), (other, 81)];
    // (One `nc -ll` serves many at a time, each with a process.)
    let cmd = shell("nc -ll -p 80 -e sleep 60 & nc -l -p 81 -e sh -c 'read word; echo inside $word'");
    assert_eq!(place.run_job(Job { cmd: &cmd, ports: &ports, ..job(&root) }).0, 0);
}

/// What somebody answers, as soon as somebody does.
fn ask(address: SocketAddr, question: &str) -> String {
    let patience = Duration::from_secs(60);
    let end = Instant::now() + patience;
    loop {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(address) {
            // (One that is given up before the container has started is answered all the same, and the only one that is.)
            let _ = stream.set_read_timeout(Some(patience));
            let _ = stream.write_all(question.as_bytes()).and_then(|()| stream.read_to_string(&mut answer).map(drop));
        }
        if !answer.is_empty() || Instant::now() > end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A machine of its own, with one way out, to a place that tells who asks: 203.0.113.1, which is also where a cloud would
/// tell its machines everything. What is named in HIDDEN is not on it.
const MACHINE: &str = r#"
    set -e
    for hidden in $HIDDEN; do for folder in /usr/sbin /usr/bin; do
        [ ! -e $folder/$hidden ] || mount --bind /dev/null $(readlink -f $folder/$hidden)
    done; done
    mount --bind $1/ranges /etc/subuid && mount --bind $1/ranges /etc/subgid
    mount -t tmpfs none /run
    # Where udev is, everybody may use it.
    mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200
    unshare -n sleep 300 & world=$!
    here=$(readlink /proc/self/ns/net)
    until there=$(readlink /proc/$world/ns/net) && [ "$there" != "$here" ]; do sleep 0.05; done
    unshare -n sh -c "
        set -e
        ip link set lo up
        until ip link add out type veth peer name in netns $world 2>/dev/null; do sleep 0.1; done
        ip addr add 203.0.113.2/24 dev out; ip link set out up
        nsenter -t $world -n sh -c 'ip addr add 203.0.113.1/24 dev in; ip addr add 169.254.169.254/32 dev in; ip link set in up; ip link set lo up'
        ip route add default via 203.0.113.1
        nsenter -t $world -n $1/tests --ignored --exact network::the_world & server=\$!
        status=0; $AS env TMPDIR=$1 $1/tests --ignored --exact $2 --nocapture || status=\$?
        kill \$server; exit \$status
    " || status=$?
    kill $world
    exit ${status:-0}
"#;

fn on_a_machine(way: &str, user: bool, hidden: &str) {
    on_a_machine_with(way, user, hidden, "nobody:3000000:65536\n");
}

fn on_a_machine_with(way: &str, user: bool, hidden: &str, ranges: &str) {
    let script = format!(
        "export HIDDEN='{hidden}' WAY='{way}' AS='{}'; {MACHINE}",
        if user { "setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "" }
    );
    let name = format!("{}-{user}-{}", way.replace(' ', "-"), ranges.len());
    elsewhere(&name, "network::a_way_out", ranges, &script);
}

#[test]
fn root_gets_out_by_iptables() {
    on_a_machine("NAT", false, "pasta slirp4netns nft");
}

#[test]
fn root_gets_out_by_nft() {
    on_a_machine("NAT by nft", false, "pasta slirp4netns iptables iptables-restore");
}

#[test]
fn everybody_gets_out_by_pasta() {
    on_a_machine("pasta", false, "slirp4netns iptables-restore nft");
    on_a_machine("pasta", true, "slirp4netns");
    on_a_machine_with("pasta", true, "slirp4netns", "");
}

#[test]
fn everybody_gets_out_by_slirp4netns() {
    on_a_machine("slirp4netns", false, "pasta iptables-restore nft");
    on_a_machine("slirp4netns", true, "pasta");
}

#[test]
fn where_nothing_can_be_had_the_machines_network_is_shared_and_that_is_said() {
    on_a_machine("neither pasta nor slirp4netns", true, "pasta slirp4netns");
}

#[test]
#[ignore = "what machines of their own lead to"]
fn the_world() {
    let listener = TcpListener::bind("0.0.0.0:9").expect("a port");
    for mut stream in listener.incoming().flatten() {
        // (Pasta of 2023 loses the end of a connection where one side ends at once, or gives it the answer again and again:
        // so this one stays open for a moment, and the one that asks ends after it.)
        std::thread::spawn(move || {
            let peer = stream.peer_addr().map(|peer| peer.ip());
            let _ = peer.and_then(|peer| stream.write_all(format!("{peer}\n").as_bytes()));
            std::thread::sleep(Duration::from_millis(200));
        });
    }
}

/// Asks the world who asks, and has nothing to say, but does not say so.
const WORLD: &str = "[ -p /tmp/silent ] || mkfifo /tmp/silent; timeout 10 nc 203.0.113.1 9 <>/tmp/silent; true";

#[test]
#[ignore = "run on machines of their own"]
fn a_way_out() {
    let mut place = Place::new("out");
    place.sandbox = place.sandbox.clone().with_program(std::env::temp_dir().join("program"));
    let way = std::env::var("WAY").expect("run by `on_a_machine`");
    let told = place.sandbox.network();
    assert!(told.contains(way.trim_end_matches(" by nft")), "{told}");
    let root = place.root();
    until("the world listens", || TcpStream::connect("203.0.113.1:9").is_ok());
    let here = listens("127.0.0.1:0", "here");
    let script = format!(
        "{WORLD}; timeout 5 nc 127.0.0.1 {here} </dev/null; \
         for at in 203.0.113.2 10.0.2.2 203.0.113.1; do timeout 2 nc $at {here} </dev/null; done; echo end"
    );
    let cmd = shell(&script);
    let plain = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !line.starts_with("nc: ") && line != "Terminated").collect()
    };
    let lines = plain(place.run_job(bridge_of(&root, &cmd)).1);
    if let Some(cost) = place.sandbox.network_cost() {
        assert!(cost.contains("apt-get install passt") && cost.contains("127.0.0.1"), "{cost}");
        assert_eq!(lines, ["203.0.113.2", "here", "end"]);
        return;
    }
    assert_eq!(lines, ["203.0.113.2", "end"]);
    // What connects a network must be ready before its container starts, each time.
    let once = shell(WORLD);
    for time in 0..4 {
        assert_eq!(plain(place.run_job(bridge_of(&root, &once)).1), ["203.0.113.2"], "{time}");
    }
    let cloud = shell("for at in 169.254.169.254; do timeout 2 nc $at 9 </dev/null; done; true");
    assert_eq!(plain(place.run_job(bridge_of(&root, &cloud)).1), [""; 0]);
    let doors = [here];
    assert_eq!(plain(place.run_job(Job { doors: &doors, ..bridge_of(&root, &cmd) }).1)[..2], ["203.0.113.2", "here"]);
    let cmd = shell("nc -l -p 80 -e true & sleep 0.3; netstat -ltn | grep -c ':80 '");
    assert_eq!(place.run_job(Job { user: "ann", ..bridge_of(&root, &cmd) }).1, ["1"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its own");
    let ports = [(listener, 80)];
    let cmd = shell("nc -l -p 80 -e sh -c 'read word; echo inside $word'");
    let asking = std::thread::spawn(move || ask(at, "hello\n"));
    assert_eq!(place.run_job(Job { ports: &ports, ..bridge_of(&root, &cmd) }).0, 0);
    assert_eq!(asking.join().expect("an answer"), "inside hello\n");
    // One that is killed leaves no helper and no interface; its rules the next one takes away.
    let own = std::env::current_exe().expect("this program");
    let child =
        Command::new(own).args(["--ignored", "--exact", "network::to_be_killed_on_a_network"]).stdout(std::process::Stdio::null()).spawn();
    let mut child = child.expect("this program runs");
    until("the command starts", || !processes_of("8531").is_empty());
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    until("everything ends", || processes_of("8531").is_empty());
    as_before();
    place.run_job(bridge_of(&root, &["true".to_string()]));
    as_before();
    let dir = place.dir.clone();
    drop(place);
    assert!(!dir.exists());
    let killed = std::env::temp_dir().join(format!("twostage-sandbox-{}-killed", child.id()));
    let sandbox = Sandbox::new().expect("ids").with_program(std::env::temp_dir().join("program"));
    sandbox.remove(&killed).expect("what it left can be removed");
    let rules = Command::new("iptables").arg("-S").output().map(|out| out.stdout).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&rules).contains("TWOSTAGE"));
}

/// What helps ends with the container, and the machine is as before.
fn as_before() {
    for helper in ["pasta", "slirp4netns"] {
        let own = std::process::id().to_string();
        let found = || Command::new("pgrep").args(["-x", helper, "--ns", &own, "--nslist", "net"]).output();
        until("the helper ends", || found().is_ok_and(|out| out.stdout.is_empty()));
    }
    until("no interface is left", || fs::read_to_string("/proc/net/dev").is_ok_and(|text| !text.contains("twostage")));
}

#[test]
#[ignore = "the program that `a_way_out` kills"]
fn to_be_killed_on_a_network() {
    let mut place = Place::new("killed");
    place.sandbox = place.sandbox.clone().with_program(std::env::temp_dir().join("program"));
    let root = place.root();
    place.run_job(bridge_of(&root, &shell("(setsid sleep 8531 &); sleep 8531")));
}

fn bridge_of<'a>(root: &'a Root, cmd: &'a [String]) -> Job<'a> {
    Job { cmd, ..bridge(root) }
}

#[test]
#[ignore = "tells how long a container takes to start, on each network"]
fn how_long_a_start_takes() {
    let place = Place::new("speed");
    let root = place.root();
    println!("{}", place.sandbox.network());
    for network in [Network::None, Network::Host, Network::Bridge] {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let began = Instant::now();
                let cmd = ["/bin/true".to_string()];
                place.run_job(Job { cmd: &cmd, network, ..job(&root) });
                began.elapsed()
            })
            .skip(1)
            .collect();
        times.sort();
        println!("{network}: {:?}", times[10]);
    }
}
