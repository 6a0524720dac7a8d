//! What rpm packages generate and nothing of Debian's does. Where a path is the same in both, the
//! rule is in `generated.rs` and names the packages of both. From the distributions' spec files.

use super::generated::rule;
use super::{Check, Rule};

/// These come after those of `generated.rs`.
pub const GENERATED_RPM: &[Rule] = &[
    rule(
        "rpm-database",
        &["*"],
        Check::File,
        &[
            "usr/lib/sysimage/rpm/rpmdb.sqlite",
            "var/lib/rpm/rpmdb.sqlite",
            "usr/lib/sysimage/rpm/Packages.db",
            "var/lib/rpm/Packages.db",
            "usr/lib/sysimage/rpm/Index.db",
            "var/lib/rpm/Index.db",
        ],
        "rpm's database: without it nobody knows what is installed.",
    ),
    rule(
        "rpm-folders",
        &["*"],
        Check::Folder,
        &[
            "usr/lib/sysimage",
            "usr/lib/sysimage/rpm",
            "var/lib/rpm",
            "var/lib/rpm-state",
            "usr/lib/sysimage/libdnf5",
            "usr/lib/sysimage/libdnf5/comps_groups",
            "usr/lib/sysimage/libdnf5/comps_groups/*",
        ],
        "A folder of rpm's or dnf's records.",
    ),
    rule(
        "dnf5-state",
        &["libdnf5*", "dnf5*"],
        Check::File,
        &[
            "usr/lib/sysimage/libdnf5/packages.toml",
            "usr/lib/sysimage/libdnf5/nevras.toml",
            "usr/lib/sysimage/libdnf5/groups.toml",
            "usr/lib/sysimage/libdnf5/environments.toml",
            "usr/lib/sysimage/libdnf5/modules.toml",
            "usr/lib/sysimage/libdnf5/system.toml",
            "var/lib/dnf/system/*.toml",
        ],
        "Which packages were installed only because others need them, and from which source.",
    ),
    rule(
        "zypp-state",
        &["libzypp*", "zypper*"],
        Check::File,
        &["var/lib/zypp/AutoInstalled", "var/lib/zypp/RequestedLocales", "var/lib/zypp/LastDistributionFlavor"],
        "Which packages were installed only because others need them.",
    ),
    rule("rpm-ghost", &["*"], Check::Ghost, &["**"], "A path that an rpm owns and its scripts or programs fill (%ghost)."),
    // Links and files that scripts make.
    rule(
        "alternatives-state",
        &["alternatives", "chkconfig", "update-alternatives"],
        Check::File,
        &["var/lib/alternatives/*"],
        "What can stand for what (alternatives, update-alternatives).",
    ),
    rule(
        "ca-trust",
        &["ca-certificates*"],
        Check::File,
        &["etc/pki/ca-trust/extracted/**", "var/lib/ca-certificates/**"],
        "The certificates that programs trust, in each form that they read (update-ca-trust, update-ca-certificates).",
    ),
    rule(
        "ca-trust-folders",
        &["ca-certificates*"],
        Check::Folder,
        &["etc/pki/ca-trust/extracted/pem/directory-hash", "var/lib/ca-certificates/*"],
        "Folders of the same.",
    ),
    rule(
        "ca-trust-links",
        &["ca-certificates*"],
        Check::Anything,
        &["etc/pki/ca-trust/extracted/pem/directory-hash/*", "var/lib/ca-certificates/pem/*", "var/lib/ca-certificates/openssl/*"],
        "The same, one by one and by their hashes.",
    ),
    rule(
        "crypto-policies",
        &["crypto-policies*"],
        Check::Anything,
        &["etc/crypto-policies/back-ends/*.config", "etc/crypto-policies/state/current", "etc/crypto-policies/state/CURRENT.pol"],
        "Which ciphers programs use (update-crypto-policies).",
    ),
    rule("authselect", &["authselect*"], Check::File, &["etc/authselect/*", "var/lib/authselect/*"], "How users sign in (authselect)."),
    rule(
        "pam-config",
        &["pam-config"],
        Check::Anything,
        &[
            "etc/pam.d/common-account",
            "etc/pam.d/common-auth",
            "etc/pam.d/common-password",
            "etc/pam.d/common-session",
            "etc/pam.d/common-account-pc",
            "etc/pam.d/common-auth-pc",
            "etc/pam.d/common-password-pc",
            "etc/pam.d/common-session-pc",
        ],
        "How users sign in (pam-config).",
    ),
    rule(
        "selinux",
        &["selinux-policy-*"],
        Check::File,
        &["etc/selinux/*/policy/policy.*", "etc/selinux/*/contexts/files/*", "var/lib/selinux/*/active/**"],
        "The policy of the packages' modules, compiled (semodule).",
    ),
    rule("sysconfig", &["fillup"], Check::File, &["etc/sysconfig/*"], "A setting made of a package's template (SUSE's fillup)."),
];
