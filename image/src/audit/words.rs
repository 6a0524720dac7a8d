//! Residue in words: addresses, keys and secrets in an image's history and configuration.

use super::Known;
use crate::image::Config;
use crate::report::Residue;

const SECRETS: [&str; 7] = ["TOKEN", "PASSWORD", "PASSWD", "SECRET", "CREDENTIAL", "API_KEY", "PRIVATE_KEY"];

/// What history and configuration above the base tell that they should not. A value that the
/// project file sets is the project's own affair.
pub fn residue(config: &Config, base_layers: usize, known: &Known) -> Vec<Residue> {
    let mut found = Vec::new();
    let mut say = |at: String, kind: &'static str, (rule, reason): (&'static str, String)| {
        found.push(Residue { layer: None, at, kind, bytes: 0, rule, reason });
    };
    // History is the base's up to the step that made its last layer. Where the two do not fit
    // together, all of it is judged.
    let with_layers = config.history.iter().filter(|step| !step.empty_layer).count();
    let mut layers_seen = 0;
    for (number, step) in config.history.iter().enumerate() {
        let base = with_layers == config.diff_ids.len() && layers_seen < base_layers;
        layers_seen += usize::from(!step.empty_layer);
        if base {
            continue;
        }
        let text = step.created_by.as_str();
        let sets = ["ENV ", "LABEL "].iter().find_map(|word| text.split_once(word)).map(|(_, rest)| rest.trim_start());
        if sets.is_some_and(|rest| {
            let name = rest.split(['=', ' ']).next().unwrap_or_default();
            known.env.contains(name) || known.labels.contains(name)
        }) {
            continue;
        }
        for finding in judge(text).into_iter().chain(judge(&step.comment)) {
            say(format!("history[{number}]"), "history", finding);
        }
    }
    for (number, variable) in config.env.iter().enumerate() {
        if !known.env.contains(variable.split('=').next().unwrap_or_default()) {
            judge(variable).into_iter().for_each(|finding| say(format!("config.env[{number}]"), "config", finding));
        }
    }
    for (label, value) in &config.labels {
        if !known.labels.contains(label) {
            judge(value).into_iter().for_each(|finding| say(format!("config.labels[{label}]"), "config", finding));
        }
    }
    found
}

/// What is wrong with a text; each kind once.
fn judge(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if text.contains("-----BEGIN PGP") || (text.contains("-----BEGIN ") && text.contains("PRIVATE KEY")) {
        found.push(("key", "a key stands in it".to_string()));
    }
    let lower = text.to_ascii_lowercase();
    let proxy = ["http_proxy=", "https_proxy=", "ftp_proxy=", "all_proxy="]
        .iter()
        .find(|name| lower.split(**name).skip(1).any(|rest| rest.chars().next().is_some_and(|c| !c.is_whitespace() && c != '|')));
    if let Some(name) = proxy {
        found.push(("proxy", format!("it sets {}, which is this build's network", name.trim_end_matches('='))));
    }
    if let Some(name) = secret(text) {
        found.push(("secret", format!("{name} is set in it, for everyone who has the image")));
    }
    if let Some(address) = text.match_indices("://").find_map(|(at, _)| address(&text[at + 3..])) {
        found.push(("address", address));
    }
    found
}

/// The name of a variable that sounds secret and has a value.
fn secret(text: &str) -> Option<&str> {
    text.match_indices('=').find_map(|(at, _)| {
        let start = text[..at].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |i| i + 1);
        // Where the character before is not ASCII, `i + 1` is inside it.
        let name = text.get(start..at)?;
        let upper = name.to_ascii_uppercase();
        let value = text[at + 1..].trim_start_matches(['"', '\'']).chars().next();
        let given = value.is_some_and(|c| !c.is_whitespace() && c != '$' && c != ';');
        (given && SECRETS.iter().any(|word| upper.contains(word))).then_some(name)
    })
}

/// Whether what follows `://` is an address of one network or machine.
fn address(rest: &str) -> Option<String> {
    let end = rest.find(|c: char| c.is_whitespace() || "/\"'`<>|;\\?#,)".contains(c)).unwrap_or(rest.len());
    let authority = &rest[..end];
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if user.is_some_and(|user| user.contains(':')) {
        return Some("a password stands in a URL in it".into());
    }
    let (name, port) = match host.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, port)) => (v6, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let numeric = name.parse::<std::net::IpAddr>().is_ok();
    let local = name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local") || name == "host.docker.internal";
    let port = port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    (numeric || local || (port && !name.is_empty())).then(|| format!("the address {host} stands in it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::History;

    #[test]
    fn addresses_keys_and_secrets_are_seen() {
        for (text, rule) in [
            ("RUN curl http://127.0.0.1:8080/x", "address"),
            ("RUN curl 'http://[::1]/x'", "address"),
            ("deb http://repo.example.com:3142/debian", "address"),
            ("git clone https://me:hunter2@example.com/x", "address"),
            ("|1 http_proxy=http://proxy RUN x", "proxy"),
            ("HTTPS_PROXY=proxy", "proxy"),
            ("GITHUB_TOKEN=abc", "secret"),
            ("RUN DB_PASSWORD=\"x\" make", "secret"),
            ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "key"),
        ] {
            assert_eq!(judge(text).first().map(|(rule, _)| *rule), Some(rule), "{text}");
        }
        for text in [
            "RUN curl https://mirror.example/debian",
            "PATH=/usr/bin",
            "RUN echo http_proxy= |",
            "http://snapshot.twostage.invalid/@abc",
            "TOKEN=",
            "TOKEN=$TOKEN",
            "ä=1",
            "äTOKEN",
            "://",
            "a=b=c",
        ] {
            assert!(judge(text).is_empty(), "{text} {:?}", judge(text));
        }
    }

    #[test]
    fn the_base_and_the_project_are_not_blamed() {
        let step = |text: &str, empty_layer| History { created_by: text.into(), empty_layer, ..History::default() };
        let config = Config {
            history: vec![
                step("ADD http://10.0.0.1/x", false),
                step("ENV URL=http://10.0.0.1/", true),
                step("RUN curl http://10.0.0.1/", false),
            ],
            env: vec!["URL=http://10.0.0.1/".into(), "OTHER=http://10.0.0.2/".into()],
            diff_ids: vec![twostage_model::Sha256::of(b""); 2],
            ..Config::default()
        };
        let known = Known { env: ["URL".to_string()].into(), ..Known::default() };
        let at: Vec<String> = residue(&config, 1, &known).into_iter().map(|r| r.at).collect();
        assert_eq!(at, ["history[2]", "config.env[1]"]);
    }
}
