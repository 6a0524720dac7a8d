//! Who a command runs as: names and numbers of the container's own /etc/passwd and /etc/group, read as Docker reads
//! them (moby/sys/user, GetExecUser).

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Read as _;

/// More of it is not read.
const LIMIT: u64 = 16 << 20;

const USER: &str = "name a user of the image's /etc/passwd, or a number below 2147483648, which needs no entry";
const GROUP: &str = "name a group of the image's /etc/group, or a number below 2147483648, which needs no entry";

/// Who it is, in numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// A file of the container, when its root is ours. What is no plain file is nothing.
pub(super) fn read(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return String::new() };
    let file = File::from(file);
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    match file.take(LIMIT).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// `who` is `user`, `user:group`, or empty, with names or numbers; an error is Docker's sentence, and
/// what mends it.
pub(super) fn find(who: &str, passwd: &str, group: &str) -> Result<User, (String, &'static str)> {
    let (user, wanted) = who.split_once(':').unwrap_or((who, ""));
    let number = if user.is_empty() { Some(0) } else { id(user) };
    let mut accounts = passwd.lines().map(|line| line.trim().split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 3);
    let account = accounts.find(|fields| match number {
        Some(number) => id(fields[2]) == Some(number),
        None => fields[0] == user,
    });
    let name = account.as_ref().map(|fields| fields[0]).unwrap_or_default();
    let mut found = match (&account, number) {
        (Some(fields), _) => User {
            uid: id(fields[2]).ok_or_else(|| (format!("unable to find user {user}: its number in the passwd file is none"), USER))?,
            gid: fields.get(3).and_then(|gid| id(gid)).unwrap_or(0),
            groups: Vec::new(),
            home: fields.get(5).filter(|home| !home.is_empty()).unwrap_or(&"/").to_string(),
        },
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".into() },
        (None, None) => return Err((format!("unable to find user {user}: no matching entries in passwd file"), USER)),
    };
    let groups: Vec<Vec<&str>> =
        group.lines().map(|line| line.trim().split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 3).collect();
    if !wanted.is_empty() {
        let listed = groups.iter().find(|fields| match id(wanted) {
            Some(number) => id(fields[2]) == Some(number),
            None => fields[0] == wanted,
        });
        found.gid = match listed.and_then(|fields| id(fields[2])).or_else(|| id(wanted)) {
            Some(gid) => gid,
            None => return Err((format!("unable to find group {wanted}: no matching entries in group file"), GROUP)),
        };
    } else if !name.is_empty() {
        let member = |fields: &&Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
        found.groups = groups.iter().filter(member).filter_map(|fields| id(fields[2])).collect();
    }
    Ok(found)
}

/// A number that may be an id: 2³¹ and more may not, as for Docker.
fn id(text: &str) -> Option<u32> {
    text.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\nbad\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nstaff:x:50:ann,bob\nadm:x:4:root\n";

    #[test]
    fn a_user_is_found_as_docker_finds_it() {
        let find = |who| find(who, PASSWD, GROUP);
        let user = |uid, gid, groups: &[u32], home: &str| Ok(User { uid, gid, groups: groups.to_vec(), home: home.into() });
        assert_eq!(find(""), user(0, 0, &[4], "/root"));
        assert_eq!(find("ann"), user(1000, 100, &[50], "/home/ann"));
        assert_eq!(find("1000"), user(1000, 100, &[50], "/home/ann"));
        assert_eq!(find("ann:staff"), user(1000, 50, &[], "/home/ann"));
        assert_eq!(find("7"), user(7, 0, &[], "/"));
        assert_eq!(find("7:9"), user(7, 9, &[], "/"));
        assert!(find("bob").is_err_and(|(error, _)| error == "unable to find user bob: no matching entries in passwd file"));
        assert!(find("ann:wheel").is_err_and(|(error, _)| error == "unable to find group wheel: no matching entries in group file"));
        assert!(find("4294967295").is_err());
    }
}
