//! `daybook projections`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use chrono::SecondsFormat;
use clap::{Args, Subcommand, ValueEnum};
use daybook_domain::value::{Name, Reason};
use daybook_projections::engine::requests::{self, Request, Wish};
use daybook_projections::engine::{ModelReport, Parked, parked_streams, report};
use daybook_projections::read_models;
use daybook_store::Role;
use daybook_store::system::{Real, System};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use uuid::Uuid;

/// How long the server is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every read model: how far it is, and whether it goes on
    List {
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// The streams that are left aside because one of their events cannot be applied
    Parked {
        /// Of this read model only
        read_model: Option<String>,
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Try parked streams again, now
    Retry {
        /// Name of the read model, e.g. `devices`
        read_model: String,
        /// Only this stream, e.g. `device/018f…`
        #[arg(long, value_name = "TYPE/ID", value_parser = stream)]
        stream: Option<(String, Uuid)>,
    },
    /// Leave the first event of a parked stream out of a read model, for good
    Skip {
        /// Name of the read model, e.g. `devices`
        read_model: String,
        /// The journal position of the event, as `daybook projections parked` shows it
        #[arg(long, value_name = "N")]
        position: u64,
        /// Why; kept in the journal for ever
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn stream(text: &str) -> Result<(String, Uuid), String> {
    let parsed = text.split_once('/').and_then(|(kind, id)| Some((kind.to_owned(), id.parse().ok()?)));
    parsed.ok_or_else(|| "name a stream by its type and id, e.g. device/018f2f3c-…".into())
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let named = match &arguments.what {
        What::List { .. } => None,
        What::Parked { read_model, .. } => read_model.as_deref(),
        What::Retry { read_model, .. } | What::Skip { read_model, .. } => Some(read_model.as_str()),
    };
    let names: Vec<&str> = read_models().iter().map(|model| model.name()).collect();
    if let Some(name) = named.filter(|name| !names.contains(name)) {
        let names = names.join(", ");
        return Err(Failure::usage(format!("there is no read model {name:?}; there are {names}")));
    }
    if let What::Skip { reason, .. } = &arguments.what {
        Reason::parse(reason).map_err(|error| Failure::usage(format!("--reason: {error}")))?;
    }
    Base::with(&settled, async |base| carry_out(arguments, &names, base).await).await
}

async fn carry_out(arguments: &Arguments, names: &[&str], base: &Base) -> Result<(), Failure> {
    let client = base.database.connect(Role::Projector, "").await.map_err(|e| Failure::database(&e))?;
    match &arguments.what {
        What::List { format } => {
            let models = report(&client, Real.utc()).await.map_err(|e| Failure::database(&e))?;
            match format {
                Format::Json => println!("{:#}", models.iter().map(model_json).collect::<Value>()),
                Format::Text => models.iter().for_each(print_model),
            }
            Ok(())
        }
        What::Parked { read_model, format } => {
            let names: Vec<&str> =
                names.iter().copied().filter(|n| read_model.as_deref().is_none_or(|r| r == *n)).collect();
            let mut parked = Vec::new();
            for name in names {
                let streams = parked_streams(&client, name).await.map_err(|e| Failure::database(&e))?;
                parked.extend(streams.into_iter().map(|stream| (name, stream)));
            }
            match format {
                Format::Json => println!("{:#}", parked.iter().map(parked_json).collect::<Value>()),
                Format::Text => print_parked(&parked),
            }
            Ok(())
        }
        What::Retry { read_model, stream } => {
            let wish = Wish::Retry { stream: stream.clone() };
            ask(&client, read_model, wish).await?;
            let left = parked_streams(&client, read_model).await.map_err(|e| Failure::database(&e))?;
            let chosen = |parked: &&Parked| {
                stream.as_ref().is_none_or(|(kind, id)| parked.stream.kind == *kind && parked.stream.id == *id)
            };
            let left: Vec<_> = left.iter().filter(chosen).map(|parked| (read_model.as_str(), parked.clone())).collect();
            if left.is_empty() {
                println!("Nothing of {read_model} is parked any more.");
                return Ok(());
            }
            print_parked(&left);
            Err(Failure { code: 1, message: format!("{} streams of {read_model} are still parked", left.len()) })
        }
        What::Skip { read_model, position, reason } => {
            ask(&client, read_model, Wish::Skip { position: *position, reason: reason.clone() }).await?;
            println!("{read_model} leaves out event {position} from now on. The journal says who decided so, and why.");
            Ok(())
        }
    }
}

/// Leaves a request for the node that writes, and waits for its answer.
async fn ask(client: &Client, read_model: &str, wish: Wish) -> Result<(), Failure> {
    let request = Request { id: Real.uuid_v7(), read_model: read_model.to_owned(), wish, operator: operator() };
    requests::ask(client, &request, Real.utc()).await.map_err(|e| Failure::database(&e))?;
    let begun = Instant::now();
    while begun.elapsed() < ANSWER_MAX {
        match requests::answered(client, request.id).await.map_err(|e| Failure::database(&e))? {
            Some(Ok(())) => return Ok(()),
            Some(Err(message)) => return Err(Failure { code: 1, message }),
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Err(Failure {
        code: 4,
        message: "no server has taken this up yet: it does as soon as it runs (`daybook serve`); ask with `daybook projections list`"
            .into(),
    })
}

/// Who sits at the machine, as far as it tells.
fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let mut usable = named.filter(|name| Name::parse(name).is_ok());
    usable.next().unwrap_or_else(|| "unknown".to_owned())
}

fn model_json(model: &ModelReport) -> Value {
    let lanes = model.lanes.iter().map(|lane| {
        json!({
            "lane": lane.lane,
            "position": lane.position,
            "lag": lane.lag,
            "behindSeconds": lane.behind.as_secs(),
            "state": lane.state.to_string(),
            "reason": lane.reason,
            "parked": lane.parked,
        })
    });
    json!({
        "readModel": model.read_model,
        "version": model.version,
        "position": model.position(),
        "lag": model.lag(),
        "behindSeconds": model.behind().as_secs(),
        "state": model.state().to_string(),
        "parked": model.parked(),
        "lanes": lanes.collect::<Value>(),
    })
}

fn print_model(model: &ModelReport) {
    let parked = match model.parked() {
        0 => String::new(),
        1 => ", 1 stream parked".to_owned(),
        parked => format!(", {parked} streams parked"),
    };
    println!(
        "{:<12} v{:<3} {:>2} lanes  position {:>10}  {:>8} behind ({} s)  {}{parked}",
        model.read_model,
        model.version,
        model.lanes.len(),
        model.position(),
        model.lag(),
        model.behind().as_secs(),
        model.state(),
    );
    for lane in &model.lanes {
        if let Some(reason) = &lane.reason {
            println!("  lane {} {} at {}: {reason}", lane.lane, lane.state, lane.position);
        }
    }
}

fn parked_json((read_model, parked): &(&str, Parked)) -> Value {
    let time = |at: &chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "readModel": read_model,
        "tenant": parked.stream.tenant.0,
        "stream": format!("{}/{}", parked.stream.kind, parked.stream.id),
        "lane": parked.lane,
        "position": parked.first.position,
        "lastPosition": parked.last_position,
        "events": parked.events,
        "reason": parked.reason,
        "since": time(&parked.since),
        "triedAt": time(&parked.tried_at),
    })
}

fn print_parked(parked: &[(&str, Parked)]) {
    if parked.is_empty() {
        println!("Nothing is parked.");
    }
    for (read_model, parked) in parked {
        println!(
            "{read_model}  {}/{}  of tenant {}  at position {}, {} events, since {}, last tried {}\n  {}",
            parked.stream.kind,
            parked.stream.id,
            parked.stream.tenant.0,
            parked.first.position,
            parked.events,
            parked.since.to_rfc3339_opts(SecondsFormat::Secs, true),
            parked.tried_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            parked.reason,
        );
    }
}
