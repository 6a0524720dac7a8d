//! What connections do: an engine that is not there, is none, or answers in pieces.

#![allow(clippy::expect_used, clippy::panic)] // the helpers of tests are tests too

use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use twostage_engine::{Build, Engine};
use twostage_model::{Class, Error};

/// The error as the command prints it.
fn told(error: &Error) -> String {
    format!("{error}\n  because: {}\n  hint: {}", error.causes().join(": "), error.hint_text().unwrap_or("none"))
}

#[tokio::test]
async fn where_no_engine_answers_the_error_names_the_socket_and_what_to_do() {
    let folder = std::env::temp_dir().join(format!("engtest-socket-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let socket = folder.join("docker.sock");
    let missing = Engine::connect(None, Some(&format!("unix://{}", socket.display()))).await.expect_err("nothing there");
    assert_eq!(missing.class(), Class::Engine);
    assert!(missing.to_string().contains(&socket.display().to_string()), "{missing}");
    assert!(missing.hint_text().is_some_and(|hint| hint.contains("docker")), "{}", told(&missing));

    // A socket that a daemon left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let dead = Engine::connect(None, Some(&socket.display().to_string())).await.expect_err("nobody listens");
    assert!(told(&dead).contains("refused"), "{}", told(&dead));

    // Something that listens and is no engine.
    std::fs::remove_file(&socket).expect("removed");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"SSH-2.0-nothing\r\n").await.ok();
        }
    });
    let other = Engine::connect(None, Some(&socket.display().to_string())).await.expect_err("no engine");
    assert!(other.hint_text().is_some_and(|hint| hint.contains("DOCKER_HOST")), "{}", told(&other));
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// An engine may send a message's line end in a piece of its own. bollard alone then calls a build
/// that succeeded a failed one, again and again on a busy machine.
#[tokio::test]
async fn a_line_end_that_comes_late_fails_no_build_and_a_cut_answer_does() {
    let folder = std::env::temp_dir().join(format!("engtest-late-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let socket = folder.join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    let whole = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let ends_whole = whole.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let whole = ends_whole.load(Ordering::SeqCst);
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let length = stream.read(&mut asked).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
                if !asked.contains("/build?") {
                    let text = r#"{"Version":"20.10","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux","Arch":"amd64"}"#;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
                    stream.write_all(format!("{head}{text}").as_bytes()).await.ok();
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").await.ok();
                let pieces = [r#"{"aux":{"ID":"sha256:0123"}}"#, "\r\n", r#"{"stream":"Successfully built 0123"}"#, "\r\n"];
                for piece in pieces {
                    stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.ok();
                    stream.flush().await.ok();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if whole {
                    stream.write_all(b"0\r\n\r\n").await.ok();
                }
            });
        }
    });
    let engine = Engine::connect(None, Some(&socket.display().to_string())).await.expect("it greets");
    let built = engine.build(Build::new(Vec::new(), "Dockerfile"), &mut |_| ()).await;
    assert_eq!(built.expect("it was built"), "sha256:0123");
    whole.store(false, Ordering::SeqCst);
    engine.build(Build::new(Vec::new(), "Dockerfile"), &mut |_| ()).await.expect_err("the answer has no end");
    std::fs::remove_dir_all(&folder).expect("removed");
}
