//! What must not stay, as data.

use super::ResidueRule;

/// Paths in /run that may be in a layer although no package has them. The README publishes it.
pub const RUN_ALLOWED: &[&str] = &[];

/// Deletions that a layer may hold. The README publishes it.
pub const WHITEOUTS_ALLOWED: &[&str] = &[];

const fn rule(name: &'static str, paths: &'static [&'static str], reason: &'static str) -> ResidueRule {
    ResidueRule { name, paths, except: &[], content_only: false, files_only: false, reason }
}

/// What must not stay. The first rule that fits gives its reason.
pub const RESIDUE: &[ResidueRule] = &[
    rule(
        "package-payload",
        &["**/*.deb", "**/*.udeb", "**/*.ddeb", "**/*.rpm", "**/*.apk"],
        "a package file: it was needed to install, not to run",
    ),
    rule("package-lists", &["var/lib/apt/lists/**", "var/lib/apt/mirrors/**"], "package lists of apt's: they are stale tomorrow"),
    rule("apt-cache", &["var/cache/apt/**"], "a cache of apt's"),
    rule(
        "dnf-cache",
        &[
            "var/cache/dnf/**",
            "var/cache/yum/**",
            "var/cache/libdnf5/**",
            "var/cache/zypp/**",
            "var/cache/zypper/**",
            "var/cache/PackageKit/**",
            "var/lib/dnf/repos/**",
        ],
        "a cache of dnf's or zypper's",
    ),
    rule(
        "apt-source",
        &["etc/apt/sources.list", "etc/apt/sources.list.d/**"],
        "a package source: it names a server that the image should not depend on",
    ),
    rule(
        "apt-key",
        &["etc/apt/trusted.gpg*", "etc/apt/trusted.gpg.d/**", "etc/apt/keyrings/**", "usr/share/keyrings/**"],
        "a key for packages that no package has brought",
    ),
    rule(
        "dnf-source",
        &["etc/yum.repos.d/**", "etc/zypp/repos.d/**", "etc/zypp/services.d/**", "etc/zypp/credentials.d/**"],
        "a package source: it names a server that the image should not depend on",
    ),
    rule(
        "rpm-key",
        &["etc/pki/rpm-gpg/**", "usr/lib/sysimage/rpm/pubkeys/**", "var/lib/rpm/pubkeys/**"],
        "a key for packages that no package has brought",
    ),
    rule(
        "dnf-settings",
        &["etc/dnf/**", "etc/yum/**", "etc/yum.conf", "etc/zypp/**", "etc/rpm/**", "root/.rpmmacros"],
        "a setting of dnf's, zypper's or rpm's that no package has brought",
    ),
    // The reasons that dnf 4 keeps in its history go with it: times, command lines and user ids stand
    // in the same file. dnf 5 and zypper keep reasons in files of
    // their own, and those stay (`dnf5-state`, `zypp-state`).
    rule(
        "dnf-history",
        &[
            "var/lib/dnf/history.sqlite*",
            "var/lib/dnf/history/**",
            "var/lib/dnf/system/transaction_history.sqlite*",
            "usr/lib/sysimage/libdnf5/transaction_history.sqlite*",
            "var/lib/yum/**",
        ],
        "a history of installs: it tells times and command lines of the build",
    ),
    rule(
        "rpm-database-journal",
        &[
            "usr/lib/sysimage/rpm/rpmdb.sqlite-*",
            "var/lib/rpm/rpmdb.sqlite-*",
            "usr/lib/sysimage/rpm/.rpm.lock",
            "var/lib/rpm/.rpm.lock",
            "usr/lib/sysimage/rpm/.*.lock",
            "var/lib/rpm/.*.lock",
            "usr/lib/sysimage/rpm/__db.*",
            "var/lib/rpm/__db.*",
        ],
        "rpm's working files beside its database: they are made anew by whoever opens it",
    ),
    ResidueRule {
        name: "rpm-state",
        paths: &["var/lib/rpm-state/**"],
        except: &[],
        content_only: false,
        files_only: true,
        reason: "what scripts of one transaction tell each other",
    },
    rule("zypp-identity", &["var/lib/zypp/AnonymousUniqueId"], "a machine's identity: all machines of this image would share it"),
    rule(
        "apt-settings",
        &["etc/apt/apt.conf", "etc/apt/apt.conf.d/**", "etc/apt/auth.conf", "etc/apt/auth.conf.d/**", "etc/apt/preferences.d/**"],
        "a setting of apt's that no package has brought",
    ),
    ResidueRule {
        name: "log",
        paths: &["var/log/**"],
        except: &[],
        content_only: false,
        files_only: true,
        reason: "a log: it tells of the build and differs each time",
    },
    rule(
        "package-database-backup",
        &["var/lib/dpkg/*-old", "var/cache/debconf/*-old", "var/lib/dpkg/updates/*", "var/lib/dpkg/tmp.ci/**"],
        "an older copy of a package database",
    ),
    rule(
        "user-database-backup",
        &["etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"],
        "an older copy of a user database, other than the base's",
    ),
    rule("dpkg-leftover", &["**/*.dpkg-new", "**/*.dpkg-tmp", "**/*.dpkg-old", "**/*.dpkg-dist"], "left by an install that was not whole"),
    rule("rpm-leftover", &["**/*.rpmnew", "**/*.rpmsave", "**/*.rpmorig", "**/*;????????"], "left by an install that was not whole"),
    rule("ldconfig-cache", &["var/cache/ldconfig/aux-cache"], "ldconfig's own cache: it holds times of this build's files"),
    ResidueRule {
        name: "machine-id",
        paths: &["etc/machine-id", "var/lib/dbus/machine-id"],
        except: &[],
        content_only: true,
        files_only: true,
        reason: "a machine's identity: all machines of this image would share it",
    },
    rule(
        "random-seed",
        &["var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"],
        "a secret that all machines of this image would share",
    ),
    rule("host-key", &["etc/ssh/ssh_host_*"], "a host key that all machines of this image would share"),
    rule(
        "history-file",
        &[
            "root/.*_history",
            "root/.lesshst",
            "root/.viminfo",
            "root/.wget-hsts",
            "root/.cache/**",
            "root/.cache",
            "root/.gnupg/**",
            "root/.gnupg",
            "root/.rpmdb/**",
            "home/*/.*_history",
            "home/*/.cache/**",
        ],
        "left by a person's or a tool's session",
    ),
    rule("temporary", &["tmp/**", "var/tmp/**", "dev/shm/**"], "a temporary file"),
    ResidueRule {
        name: "run",
        paths: &["run/**", "var/run/**", "var/lock/**"],
        except: RUN_ALLOWED,
        content_only: false,
        files_only: false,
        reason: "state of a running system: an image has none",
    },
    rule(
        "policy-rc.d",
        &["usr/sbin/policy-rc.d"],
        "it kept services from starting while packages were installed; left, it keeps them from starting for ever",
    ),
    rule(
        "engine-file",
        &[".dockerenv", "etc/mtab", "dev/**", "proc/**", "sys/**"],
        "the engine's own: it is put there when a container runs",
    ),
    ResidueRule {
        content_only: true,
        ..rule(
            "engine-network-file",
            &["etc/resolv.conf", "etc/hostname", "etc/hosts"],
            "the engine's own: it is put there when a container runs",
        )
    },
];
