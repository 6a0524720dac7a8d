//! What meson says that each installed file is for: `meson introspect --install-plan` and `--installed`.
//!
//! Source of the format and of the tags: <https://mesonbuild.com/IDE-integration.html>, "Install plan", and
//! <https://mesonbuild.com/Installing.html>, "Installation tags".

use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct PlannedFile {
    tag: Option<String>,
}

/// The tag of each installed file, by its absolute path. `plan` and `installed` are what meson prints. What cannot be read
/// tells nothing: then a file's content and path decide.
pub fn tags(plan: &str, installed: &str) -> BTreeMap<String, String> {
    let plan: BTreeMap<String, BTreeMap<String, PlannedFile>> = serde_json::from_str(plan).unwrap_or_default();
    let installed: BTreeMap<String, String> = serde_json::from_str(installed).unwrap_or_default();
    let files = plan.into_values().flatten();
    files.filter_map(|(source, file)| Some((installed.get(&source)?.clone(), file.tag?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_the_tag_of_where_it_comes_from() {
        let plan = r#"{"targets": {"/b/libx.so.1": {"destination": "{libdir_shared}/libx.so.1", "tag": "runtime", "subproject": null}},
                       "headers": {"/s/x.h": {"destination": "{includedir}/x.h", "tag": "devel"}}, "data": {"/s/x.txt": {"destination": "{datadir}/x", "tag": null}}}"#;
        let installed = r#"{"/b/libx.so.1": "/usr/lib/libx.so.1", "/s/x.h": "/usr/include/x.h", "/s/x.txt": "/usr/share/x"}"#;
        let expected = [("/usr/include/x.h", "devel"), ("/usr/lib/libx.so.1", "runtime")].map(|(path, tag)| (path.into(), tag.into()));
        assert_eq!(tags(plan, installed), BTreeMap::from(expected));
        assert_eq!(tags("no JSON", "[]"), BTreeMap::new());
    }
}
