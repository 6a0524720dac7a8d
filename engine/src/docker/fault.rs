//! What the API's errors mean: the reason in the engine's own words, and a hint where one is known.

use bollard::errors::Error as ApiError;
use futures_util::{Stream, StreamExt};
use twostage_model::{Class, Error};

/// An engine's error as ours: `what` could not be done, because of what it said.
pub(crate) fn fault(what: impl Into<String>, error: ApiError) -> Error {
    let reason = reason(&error);
    let hint = hint(&error, &reason);
    let fault = Error::new(Class::Engine, what).because(reason);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// The messages of a build, pull, import or load. Where the line end of a message comes in a piece
/// of its own, bollard 0.21 keeps half of it and ends a good answer with an error (its issue 560).
/// An answer that is cut off ends with another error, from HTTP.
pub(crate) fn messages<T>(stream: impl Stream<Item = Result<T, ApiError>> + Unpin) -> impl Stream<Item = Result<T, ApiError>> + Unpin {
    let line_end = |error: &ApiError| matches!(error, ApiError::IOError { err } if err.to_string() == "bytes remaining on stream");
    stream.take_while(move |message| std::future::ready(!message.as_ref().is_err_and(line_end)))
}

/// Whether the engine says that it has no such thing.
pub(crate) fn is_missing(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code: 404, .. })
}

/// Why, without the words of the client library around it.
pub(crate) fn reason(error: &ApiError) -> String {
    match error {
        ApiError::DockerResponseServerError { status_code, message } if message.trim().is_empty() => {
            format!("the engine answered {status_code}")
        }
        ApiError::DockerResponseServerError { message, .. } => message.trim().to_string(),
        ApiError::DockerStreamError { error } => error.trim().to_string(),
        ApiError::DockerContainerWaitError { error, .. } => error.trim().to_string(),
        ApiError::RequestTimeoutError => "the engine did not answer in time".to_string(),
        other => {
            let mut words = other.to_string();
            let mut next = std::error::Error::source(other);
            while let Some(cause) = next {
                let text = cause.to_string();
                if !words.contains(&text) {
                    words = format!("{words}: {text}");
                }
                next = cause.source();
            }
            words
        }
    }
}

fn hint(error: &ApiError, reason: &str) -> Option<&'static str> {
    let any = |marks: &[&str]| marks.iter().any(|mark| reason.contains(mark));
    if any(&["no space left on device"]) {
        return Some(
            "free some disk space on the engine's machine: `docker system df` shows what can go, `docker system prune` removes it",
        );
    }
    if any(&["No such image", "no such image", "image not known"]) {
        return Some(
            "`docker images`, or `podman images`, lists those that it has; another engine is named with --engine, a file as docker-archive:FILE",
        );
    }
    match error {
        ApiError::RequestTimeoutError => Some("see what the engine is busy with: `docker info`"),
        ApiError::HyperLegacyError { .. } | ApiError::HyperResponseError { .. } | ApiError::IOError { .. } => {
            Some("see whether the engine still runs: `docker info`")
        }
        _ => None,
    }
}

/// The hint for a pull that failed.
pub(crate) fn pull_hint(reason: &str) -> &'static str {
    let unreachable = [
        "dial tcp",
        "no such host",
        "connection refused",
        "i/o timeout",
        "Client.Timeout",
        "TLS handshake",
        "x509",
        "server misbehaving",
        "network is unreachable",
        "proxyconnect",
        "EOF",
        "in time",
    ];
    if unreachable.iter().any(|mark| reason.contains(mark)) {
        "the engine reaches no registry; a base needs none: in the project file write `bootstrap = \"debian:bookworm\"` under [base] \
         instead of `image`, and it is made from the distribution's mirror (for rpms: a root file system, `rootfs`)"
    } else {
        "check the name and the tag; for a private registry pull it first, with `docker login` and `docker pull`"
    }
}

/// At most about `limit` bytes of a text: RUN lines can be pages long.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let text = text.trim();
    if text.len() <= limit {
        return text.to_string();
    }
    let cut = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{} … {}", &text[..cut(limit / 2)], &text[cut(text.len() - limit / 2)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(message: &str) -> ApiError {
        ApiError::DockerResponseServerError { status_code: 500, message: message.into() }
    }

    #[test]
    fn the_engines_own_words_are_the_reason() {
        let error = fault("cannot tag x", server("no such image: x\n"));
        assert_eq!((error.to_string().as_str(), error.causes()), ("cannot tag x", vec!["no such image: x".to_string()]));
        assert_eq!(error.class(), Class::Engine);
        let full = fault("cannot commit", server("write /a: no space left on device"));
        assert!(full.hint_text().is_some_and(|hint| hint.contains("docker system prune")));
    }

    #[test]
    fn a_registry_that_is_not_there_and_a_wrong_name_have_different_hints() {
        let lost = "Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host";
        assert!(pull_hint(lost).contains("bootstrap"));
        assert!(pull_hint("manifest for debian:nosuch not found: manifest unknown").contains("check the name"));
    }

    #[test]
    fn long_commands_are_shortened() {
        let long = shorten(&"ü".repeat(2000), 301);
        assert!(long.len() < 320 && long.contains(" … "), "{long}");
    }
}
