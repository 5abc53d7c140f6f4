//! `pointsman mock-agent`: an agent runtime to try things on, with the faults that one asks for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

#[path = "../../loadtest/mock_agent.rs"]
pub mod server;

use server::behaviour::{Behaviour, Fault};
use server::units::{Percent, Tokens, Wait};
use server::{MAX_BODY_BYTES, MockAgent};

/// How long answers under way may take after Ctrl-C.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Run a mock agent: completions and streams with the latency and the errors that you ask for
///
/// It answers POST /v1/chat/completions (OpenAI) and /v1/messages (Anthropic), plain and streamed, and
/// GET /sse and /ndjson. Change how it behaves while it runs, or for one request:
///
///   curl -X PATCH http://127.0.0.1:7001/behaviour -d '{"error_rate": "50%"}'
///   curl -N 'http://127.0.0.1:7001/sse?tokens=5&token_interval=1s&fault=cut'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:7001")]
    address: SocketAddr,
    /// The version that its answers name
    #[arg(long, default_value = "1.4.2", value_name = "VERSION")]
    name: String,
    /// Time to the response head
    #[arg(long, default_value = "40ms")]
    latency: Wait,
    /// Up to this much is added to the latency
    #[arg(long, default_value = "20ms")]
    jitter: Wait,
    /// Share of completions that fail with 500
    #[arg(long, default_value = "0%", value_name = "PERCENT")]
    error_rate: Percent,
    /// Length of an answer
    #[arg(long, default_value = "40")]
    tokens: Tokens,
    /// In a stream, time from the head to the first token
    #[arg(long, default_value = "0s", value_name = "WAIT")]
    first_token: Wait,
    /// In a stream, time from one token to the next
    #[arg(long, default_value = "10ms", value_name = "WAIT")]
    token_interval: Wait,
    /// How streams fail, half of their tokens sent
    #[arg(long, value_enum, default_value = "none")]
    fault: Fault,
    /// Share of streams that meet the fault
    #[arg(long, default_value = "100%", value_name = "PERCENT")]
    fault_rate: Percent,
    /// Same seed, same delays and failures
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    fn behaviour(&self) -> Behaviour {
        Behaviour {
            latency: self.latency,
            jitter: self.jitter,
            error_rate: self.error_rate,
            tokens: self.tokens,
            first_token: self.first_token,
            token_interval: self.token_interval,
            fault: self.fault,
            fault_rate: self.fault_rate,
            seed: self.seed,
        }
    }
}

/// Serves until Ctrl-C.
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let agent = MockAgent::start(args.address, &args.name, args.behaviour())
            .await
            .with_context(|| format!("cannot listen on {}", args.address))?;
        super::say(format_args!("mock agent {} on http://{}", args.name, agent.address))?;
        super::say(format_args!(
            "  bodies to {} KiB; GET /behaviour shows, PUT and PATCH change how it behaves",
            MAX_BODY_BYTES >> 10
        ))?;
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
        let counts = agent.counts.clone();
        // A stream under way may be long; whoever pressed Ctrl-C does not want to wait for it.
        let _ = tokio::time::timeout(STOP_TIMEOUT, agent.stop()).await;
        super::say(format_args!(
            "stopped after {} completions, {} of them failed on purpose",
            counts.completions(),
            counts.failed()
        ))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &str) -> Result<Args, clap::Error> {
        Ok(Alone::try_parse_from(std::iter::once("mock-agent").chain(arguments.split_whitespace()))?.args)
    }

    #[test]
    fn without_flags_it_behaves_by_default() {
        assert_eq!(parse("").unwrap().behaviour(), Behaviour::default());
    }

    #[test]
    fn flags_set_the_behaviour_and_bad_ones_are_refused() {
        let args = parse("--latency 5ms --error-rate 12.5% --tokens 3").unwrap();
        let behaviour = args.behaviour();
        assert_eq!(behaviour.latency.get().as_millis(), 5);
        assert!((behaviour.error_rate.as_fraction() - 0.125).abs() < 1e-9);
        assert_eq!(behaviour.tokens.get(), 3);
        for bad in
            ["--latency 5", "--error-rate 5", "--error-rate 101%", "--tokens 9999999", "--address nowhere", "--fault x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
