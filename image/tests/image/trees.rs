//! The merged tree, asserted as text: the whiteout rules of the OCI specification.

use crate::support::*;
use twostage_image::{Layer, Tree, Want, read_archive};

fn layers(tars: Vec<Vec<u8>>) -> Vec<Layer> {
    read_archive(&docker_old(&tars)[..], &|_| Want::Digest).unwrap_or_else(|e| panic!("{e}")).layers
}

/// Paths only.
fn paths(tars: Vec<Vec<u8>>) -> String {
    let layers = layers(tars);
    Tree::new(&layers).iter().map(|(path, node)| format!("{path}{} ", if node.is_dir() { "/" } else { "" })).collect()
}

#[test]
fn a_whiteout_deletes_what_is_below_and_nothing_of_its_own_layer() {
    let base = || Tar::new().file("a/b/c", "1").file("a/d", "1").done();
    assert_eq!(paths(vec![base(), Tar::new().file("a/.wh.b", "").done()]), "a/ a/d ");
    assert_eq!(paths(vec![base(), Tar::new().file("a/b/new", "").file("a/.wh.b", "").done()]), "a/ a/b/ a/b/new a/d ");
    assert_eq!(paths(vec![base(), Tar::new().file(".wh.a", "").done()]), "");
    assert_eq!(paths(vec![base(), Tar::new().file("a/.wh.none", "").done()]), "a/ a/b/ a/b/c a/d ");
}

#[test]
fn an_opaque_folder_hides_the_layers_below_wherever_its_mark_stands() {
    let base = || Tar::new().file("a/b/c", "1").file("ab", "1").done();
    let before = Tar::new().dir("a").file("a/.wh..wh..opq", "").file("a/new", "").done();
    let after = Tar::new().dir("a").file("a/new", "").file("a/.wh..wh..opq", "").done();
    assert_eq!(paths(vec![base(), before]), "a/ a/new ab ");
    assert_eq!(paths(vec![base(), after]), "a/ a/new ab ");
    assert_eq!(paths(vec![base(), Tar::new().file(".wh..wh..opq", "").file("x", "").done()]), "x ");
}

#[test]
fn types_replace_each_other() {
    let base = || Tar::new().file("a/b", "1").file("f", "1").symlink("l", "a").done();
    assert_eq!(paths(vec![base(), Tar::new().file("a", "now a file").done()]), "a f l ");
    assert_eq!(paths(vec![base(), Tar::new().dir("f").file("f/x", "").done()]), "a/ a/b f/ f/x l ");
    assert_eq!(paths(vec![base(), Tar::new().file("l/x", "").done()]), "a/ a/b f l/ l/x ");
    assert_eq!(paths(vec![base(), Tar::new().dir("a").done()]), "a/ a/b f l ");
}

#[test]
fn a_tree_is_text() {
    let base = Tar::new().dir("./").file("f", "abc").device(b'3', "null", 1, 3).device(b'6', "pipe", 0, 0).done();
    let top = Tar::new().hardlink("g", "f").symlink("l", "../x").raw(b'0', b"odd\xff", b"", b"").file("d/e", "").done();
    let layers = layers(vec![base, top]);
    assert_eq!(
        Tree::new(&layers).to_text(),
        "/: dir 0755 0:0\n\
         /d/: dir, stated by no layer\n\
         /d/e: file 0644 0:0 0 e3b0c44298fc\n\
         /f: file 0644 0:0 3 ba7816bf8f01\n\
         /g: file 0644 0:0 3 ba7816bf8f01 = /f\n\
         /l: symlink -> ../x\n\
         /null: char 0600 0:0 1,3\n\
         /odd\\xff: file 0644 0:0 0 e3b0c44298fc\n\
         /pipe: fifo 0600 0:0\n"
    );
}

#[test]
fn links_are_followed_inside_the_tree_only() {
    let tar = Tar::new()
        .symlink("lib", "usr/lib")
        .file("usr/lib/x", "1")
        .symlink("usr/lib/y", "/lib/x")
        .symlink("out", "../../../../usr/lib")
        .symlink("loop", "loop/loop")
        .symlink("a", "b")
        .symlink("b", "a")
        .done();
    let layers = layers(vec![tar]);
    let tree = Tree::new(&layers);
    assert_eq!(tree.canonical("lib/x"), "usr/lib/x");
    assert_eq!(tree.canonical("lib/none/z"), "usr/lib/none/z");
    assert_eq!(tree.canonical("lib"), "lib");
    assert_eq!(tree.canonical("loop/x"), "loop/x");
    assert_eq!(tree.resolve("lib/y").map(|(path, _)| path).as_deref(), Some("usr/lib/x"));
    assert_eq!(tree.resolve("out/x").map(|(path, _)| path).as_deref(), Some("usr/lib/x"));
    assert!(tree.resolve("a").is_none() && tree.resolve("loop").is_none());
    assert_eq!(tree.names(""), ["a", "b", "lib", "loop", "out", "usr"]);
    assert_eq!(tree.names("usr/lib"), ["x", "y"]);
}
