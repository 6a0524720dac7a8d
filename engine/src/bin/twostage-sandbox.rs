//! What tests run inside sandboxes: their own programs cannot begin with [`twostage_engine::enter_sandbox`].

fn main() -> std::process::ExitCode {
    twostage_engine::enter_sandbox();
    // Nobody runs this by hand.
    std::process::ExitCode::from(2)
}
