//! What two configurations say differently: every key of both counts, known here or not, but for those that tell how and
//! when the image came about.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that tell how, when and of what an image was made; files are compared on their own. The last ones are the old
/// builder's and BuildKit's notes.
const MAKING: [&str; 8] = ["created", "history", "rootfs", "id", "parent", "container", "container_config", "docker_version"];
/// BuildKit's notes, such as `moby.buildkit.buildinfo.v1`.
const NOTES: &str = "moby.buildkit.";
/// The old builder's note in `config` of what an image was made from.
const MADE_FROM: &str = "Image";

/// What keys are called where people write them.
const WORDS: [(&str, &str); 12] = [
    ("User", "user"),
    ("WorkingDir", "working directory"),
    ("Entrypoint", "entrypoint"),
    ("Cmd", "command"),
    ("ExposedPorts", "exposed ports"),
    ("Volumes", "volumes"),
    ("StopSignal", "stop signal"),
    ("StopTimeout", "stop timeout"),
    ("Healthcheck", "health check"),
    ("Shell", "shell"),
    ("OnBuild", "on build"),
    ("Env", "variables"),
];

/// One line for each setting that differs: `command: ["a b"] -> ["a","b"]`. What is not set is `none`; text and lists are
/// JSON, so that one word with a blank is not two.
pub fn differs(a: &[u8], b: &[u8]) -> Vec<String> {
    let (a, b) = (settings(a), settings(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let said = |value: Option<&Value>| value.map_or("none".into(), Value::to_string);
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| format!("{name}: {} -> {}", said(a.get(name)), said(b.get(name))))
        .collect()
}

/// Every setting by its name. What says the same as nothing is left out.
fn settings(json: &[u8]) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    let Ok(Value::Object(whole)) = serde_json::from_slice::<Value>(json) else { return settings };
    for (key, value) in whole {
        match value {
            _ if MAKING.contains(&key.as_str()) || key.starts_with(NOTES) => {}
            Value::Object(run) if key == "config" => run.into_iter().for_each(|(key, value)| setting(&key, value, &mut settings)),
            value => put(key, value, &mut settings),
        }
    }
    settings
}

fn setting(key: &str, value: Value, settings: &mut BTreeMap<String, Value>) {
    match (key, value) {
        (MADE_FROM, _) => {}
        ("Env", Value::Array(list)) => variables(list, settings),
        // Here an empty text is a value, too.
        ("Labels", Value::Object(labels)) => settings.extend(labels.into_iter().map(|(name, value)| (format!("label {name}"), value))),
        // `{"80/tcp": {}}` is a set.
        ("ExposedPorts" | "Volumes", Value::Object(set)) => {
            put(word(key), set.into_iter().map(|(name, _)| Value::from(name)).collect(), settings)
        }
        (key, value) => put(word(key), value, settings),
    }
}

/// Each variable is a setting of its own. Their order says nothing, unless one is there twice.
fn variables(list: Vec<Value>, settings: &mut BTreeMap<String, Value>) {
    let names: BTreeSet<&str> = list.iter().filter_map(|pair| Some(split(pair.as_str()?).0)).collect();
    if names.len() < list.len() {
        settings.insert(word("Env"), list.clone().into());
    }
    settings.extend(list.iter().filter_map(Value::as_str).map(split).map(|(name, value)| (format!("variable {name}"), value.into())));
}

fn split(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn put(name: String, value: Value, settings: &mut BTreeMap<String, Value>) {
    if let Some(value) = said(value) {
        settings.insert(name, value);
    }
}

/// A value without what says nothing in it: Go leaves such out, or writes it, by version.
fn said(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::Array(list) if list.is_empty() => None,
        Value::Object(map) => {
            let map: Map<String, Value> = map.into_iter().filter_map(|(key, value)| Some((key, said(value)?))).collect();
            (!map.is_empty()).then_some(Value::Object(map))
        }
        value => Some(value),
    }
}

fn word(key: &str) -> String {
    WORDS.iter().find(|(known, _)| *known == key).map_or(key, |(_, word)| word).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(a: &str, b: &str) -> Vec<String> {
        differs(a.as_bytes(), b.as_bytes())
    }

    fn run(a: &str, b: &str) -> Vec<String> {
        lines(&format!(r#"{{"config":{a}}}"#), &format!(r#"{{"config":{b}}}"#))
    }

    #[test]
    fn words_that_look_the_same_are_told_apart() {
        let (one, two) = (r#"{"Entrypoint":["sh","-c","echo a"],"Cmd":["a b"]}"#, r#"{"Entrypoint":["sh","-c echo a"],"Cmd":["a","b"]}"#);
        assert_eq!(run(one, two), [r#"command: ["a b"] -> ["a","b"]"#, r#"entrypoint: ["sh","-c","echo a"] -> ["sh","-c echo a"]"#]);
        assert_eq!(run(r#"{"User":"none"}"#, "{}"), [r#"user: "none" -> none"#]);
        assert_eq!(run(r#"{"Env":["A="],"Labels":{"l":""}}"#, "{}"), [r#"label l: "" -> none"#, r#"variable A: "" -> none"#]);
        assert_eq!(run(r#"{"Env":["A=1","A=2"]}"#, r#"{"Env":["A=2","A=2"]}"#), [r#"variables: ["A=1","A=2"] -> ["A=2","A=2"]"#]);
    }

    #[test]
    fn every_key_is_compared_known_or_not() {
        let keys = [
            ("StopSignal", r#""SIGKILL""#),
            ("Volumes", r#"{"/data":{}}"#),
            ("ExposedPorts", r#"{"80/tcp":{}}"#),
            ("Healthcheck", r#"{"Test":["CMD-SHELL","false"],"Interval":1}"#),
            ("Shell", r#"["/bin/bash","-c"]"#),
            ("OnBuild", r#"["RUN x"]"#),
            ("User", r#""1000""#),
            ("WorkingDir", r#""/x""#),
            ("ArgsEscaped", "true"),
            ("StopTimeout", "3"),
            ("Hostname", r#""h""#),
            ("NobodyKnows", r#"[1]"#),
        ];
        for (key, value) in keys {
            let name = word(key);
            let [line] = &run("{}", &format!(r#"{{"{key}":{value}}}"#))[..] else { panic!("{key}") };
            assert!(line.starts_with(&format!("{name}: none -> ")), "{line}");
        }
        for key in ["architecture", "os", "variant", "os.version", "author", "nobody.knows"] {
            assert_eq!(lines("{}", &format!(r#"{{"{key}":"x"}}"#)), [format!(r#"{key}: none -> "x""#)]);
        }
        assert_eq!(lines("{}", r#"{"os.features":["a"]}"#), [r#"os.features: none -> ["a"]"#]);
    }

    #[test]
    fn what_says_nothing_and_what_tells_of_the_making_are_no_difference() {
        let empty =
            r#"{"Cmd":null,"User":"","Volumes":{},"OnBuild":[],"AttachStdin":false,"Healthcheck":{"Interval":0},"Image":"sha256:1"}"#;
        assert_eq!(run("{}", empty), Vec::<String>::new());
        assert_eq!(run(r#"{"Env":["A=1","B=2"]}"#, r#"{"Env":["B=2","A=1"]}"#), Vec::<String>::new());
        let made = r#"{"created":"x","history":[{}],"rootfs":{"type":"layers"},"container":"1","docker_version":"2","moby.buildkit.x":1}"#;
        assert_eq!(lines("{}", made), Vec::<String>::new());
    }
}
