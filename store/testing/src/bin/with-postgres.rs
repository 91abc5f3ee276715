//! Runs a command with a PostgreSQL of its own, and stops that server whatever happens to the command.
//!
//!     with-postgres cargo nextest run

use daybook_testing::TestServer;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-postgres COMMAND [ARGUMENT …]");
        return ExitCode::from(2);
    };
    let server = TestServer::start(&[("max_connections", "400")]).await;
    let status = tokio::process::Command::new(&program)
        .args(arguments)
        .env("DAYBOOK_TEST_URL", server.url())
        .kill_on_drop(true)
        .status();
    let code = tokio::select! {
        status = status => match status {
            Ok(status) => status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1),
            Err(error) => {
                eprintln!("{}: {error}", program.to_string_lossy());
                1
            }
        },
        _ = tokio::signal::ctrl_c() => 130,
    };
    server.stop().await;
    ExitCode::from(code)
}
