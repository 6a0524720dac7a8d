//! Single files that one package's script writes.

use super::generated::rule;
use super::{Check, Rule};

/// These come after those of `generated.rs`.
pub const GENERATED_BY_SCRIPTS: &[Rule] = &[
    rule(
        "apparmor-local",
        &["*"],
        Check::Empty,
        &["etc/apparmor.d/local/*"],
        "Where local additions to a package's profile go (dh_apparmor).",
    ),
    rule("apparmor-local-folder", &["*"], Check::Folder, &["etc/apparmor.d/local"], "The folder of the same."),
    rule(
        "java-preferences",
        &["openjdk-*-jre-headless"],
        Check::Anything,
        &["etc/.java", "etc/.java/.systemPrefs", "etc/.java/.systemPrefs/.system*"],
        "Where Java's settings go (its script).",
    ),
    rule("tcp-wrappers", &["libwrap0"], Check::File, &["etc/hosts.allow", "etc/hosts.deny"], "Who may connect (libwrap0's script)."),
    rule("readline", &["readline-common"], Check::File, &["etc/inputrc"], "Keys (readline-common's script)."),
    rule("networks", &["netbase"], Check::File, &["etc/networks"], "Names of networks (netbase's script)."),
    rule("paper-size", &["libpaper1", "libpaper2"], Check::File, &["etc/papersize"], "The size of paper (libpaper's script)."),
    rule(
        "python-settings",
        &["python3*"],
        Check::Anything,
        &["etc/python3", "etc/python3/debian_config"],
        "How Python files are compiled (python3-minimal's script).",
    ),
    rule(
        "perl-xml",
        &["libxml-sax-perl"],
        Check::Anything,
        &["etc/perl/XML", "etc/perl/XML/SAX", "etc/perl/XML/SAX/ParserDetails.ini", "var/lib/libxml-sax-perl/ParserDetails.d/*"],
        "Which XML parsers Perl has (update-perl-sax-parsers).",
    ),
    rule(
        "ghostscript",
        &["ghostscript", "libgs*"],
        Check::File,
        &["var/lib/ghostscript/fonts/Fontmap", "var/lib/ghostscript/fonts/cidfmap"],
        "Which fonts Ghostscript has (update-gsfontmap).",
    ),
    rule(
        "tex",
        &["tex-common", "texlive-base"],
        Check::Anything,
        &["etc/texmf/web2c/texmf.cnf", "var/lib/texmf/**"],
        "TeX's settings and formats (tex-common).",
    ),
    rule(
        "man-auto",
        &["man-db"],
        Check::Empty,
        &["var/lib/man-db/auto-update"],
        "That the index of documentation is to be kept (man-db's script).",
    ),
    rule(
        "libreoffice",
        &["libreoffice-common"],
        Check::File,
        &["etc/libreoffice/registry/*.xcd", "etc/libreoffice/registry/res/*.xcd"],
        "LibreOffice's settings (its script).",
    ),
    rule(
        "nginx-page",
        &["nginx*"],
        Check::Anything,
        &["var/www", "var/www/html", "var/www/html/index.nginx-debian.html"],
        "nginx's first page (its script).",
    ),
    rule(
        "apache-page",
        &["apache2*"],
        Check::Anything,
        &["var/www", "var/www/html", "var/www/html/index.html"],
        "Apache's first page (its script).",
    ),
];
