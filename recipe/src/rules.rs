//! Which part of a component a file belongs to, as data. The first rule that fits counts.
//!
//! Paths have no leading slash, and `usr/lib/<triplet>/` is written `usr/lib/`. Patterns are those of
//! [`twostage_image::rules::matches`]: `*` stays within one name, `**` stands for any number of names.

/// What a file's content must be for a rule to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleContent {
    /// Anything.
    Any,
    /// A shared library with a versioned SONAME in a folder of the linker's, or one of the names by which programs find it.
    SharedLibrary,
    /// The unversioned name of a shared library, by which compilers find it.
    LibraryLink,
    /// It is run, or a shell script that tells compilers' flags.
    ConfigScript,
}

/// What the rule makes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    Library,
    Development,
    Program,
    Data,
    Documentation,
    Typelib,
    Tests,
    /// With the libraries, or with the programs where there is no library.
    BesideLibrary,
    /// Nowhere: it is made where it is installed, or nobody needs it.
    LeftOut,
}

/// One rule.
pub(crate) struct SplitRule {
    /// A stable word, for reports.
    pub(crate) name: &'static str,
    /// The tag that meson gives the file; none means any.
    pub(crate) tag: Option<&'static str>,
    /// Patterns of paths.
    pub(crate) paths: &'static [&'static str],
    pub(crate) content: RuleContent,
    pub(crate) goes: Goes,
}

const ANY: SplitRule = SplitRule { name: "", tag: None, paths: &["**"], content: RuleContent::Any, goes: Goes::LeftOut };

/// The rules.
pub(crate) const SPLIT: &[SplitRule] = &[
    SplitRule {
        name: "made-where-it-is-installed",
        paths: &[
            "usr/share/info/dir",
            "usr/share/glib-2.0/schemas/gschemas.compiled",
            "usr/share/icons/*/icon-theme.cache",
            "usr/share/applications/mimeinfo.cache",
            "usr/share/mime/*",
            "usr/lib/gio/modules/giomodule.cache",
            "usr/lib/gtk-*/*/immodules.cache",
            "usr/lib/gdk-pixbuf-*/*/loaders.cache",
            "etc/ld.so.cache",
            "**/__pycache__/**",
            "**/*.pyc",
            "**/perllocal.pod",
        ],
        ..ANY
    },
    SplitRule { name: "libtool-archive", paths: &["usr/lib/**/*.la"], ..ANY },
    // What the build system says.
    SplitRule { name: "meson-tests", tag: Some("tests"), goes: Goes::Tests, ..ANY },
    SplitRule { name: "meson-devel", tag: Some("devel"), goes: Goes::Development, ..ANY },
    SplitRule { name: "meson-bin-devel", tag: Some("bin-devel"), goes: Goes::Development, ..ANY },
    SplitRule { name: "meson-typelib", tag: Some("typelib"), goes: Goes::Typelib, ..ANY },
    SplitRule { name: "meson-i18n", tag: Some("i18n"), goes: Goes::Data, ..ANY },
    SplitRule { name: "meson-doc", tag: Some("doc"), goes: Goes::Documentation, ..ANY },
    // What the content says.
    SplitRule { name: "shared-library", content: RuleContent::SharedLibrary, goes: Goes::Library, ..ANY },
    SplitRule { name: "library-link", content: RuleContent::LibraryLink, goes: Goes::Development, ..ANY },
    SplitRule { name: "static-library", paths: &["usr/lib/*.a", "usr/lib/*.o"], goes: Goes::Development, ..ANY },
    SplitRule { name: "config-script", paths: &["usr/bin/*-config"], content: RuleContent::ConfigScript, goes: Goes::Development, ..ANY },
    // What the path says.
    SplitRule {
        name: "development-path",
        paths: &[
            "usr/include/**",
            "usr/lib/pkgconfig/*",
            "usr/share/pkgconfig/*",
            "usr/lib/cmake/**",
            "usr/share/cmake/**",
            "usr/share/*/cmake/**",
            "usr/share/aclocal/**",
            "usr/share/gir-1.0/*",
            "usr/share/vala/**",
            "usr/share/man/man2/*",
            "usr/share/man/man3/*",
            "usr/share/gdb/**",
            "usr/lib/*/include/**",
        ],
        goes: Goes::Development,
        ..ANY
    },
    SplitRule { name: "typelib-path", paths: &["usr/lib/girepository-1.0/*.typelib"], goes: Goes::Typelib, ..ANY },
    SplitRule { name: "tests-path", paths: &["usr/libexec/installed-tests/**", "usr/share/installed-tests/**"], goes: Goes::Tests, ..ANY },
    SplitRule {
        name: "documentation-path",
        paths: &["usr/share/doc/**", "usr/share/gtk-doc/**", "usr/share/devhelp/**", "usr/share/help/**", "usr/share/info/**"],
        goes: Goes::Documentation,
        ..ANY
    },
    SplitRule {
        name: "program-path",
        paths: &[
            "usr/bin/**",
            "usr/sbin/**",
            "bin/**",
            "sbin/**",
            "usr/games/**",
            "usr/libexec/**",
            "usr/share/man/**",
            "etc/**",
            "var/**",
            "usr/lib/systemd/**",
            "lib/systemd/**",
            "usr/lib/udev/**",
            "lib/udev/**",
            "usr/lib/tmpfiles.d/*",
            "usr/lib/sysusers.d/*",
            "usr/lib/modules-load.d/*",
            "usr/lib/python3*/**",
            "usr/share/dbus-1/**",
            "usr/share/bash-completion/**",
            "usr/share/zsh/**",
            "usr/share/fish/**",
            "usr/share/polkit-1/**",
            "usr/share/applications/**",
            "usr/share/metainfo/**",
        ],
        goes: Goes::Program,
        ..ANY
    },
    SplitRule { name: "data-path", paths: &["usr/share/**"], goes: Goes::Data, ..ANY },
    SplitRule { name: "beside-the-library", paths: &["usr/lib/**"], goes: Goes::BesideLibrary, ..ANY },
];
