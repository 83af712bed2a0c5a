//! What a signature takes in the workers' runtime, beside aws4fetch.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::stack::Stack;

/// Rounds in which signers alternate.
const ROUNDS: u32 = 9;

/// How long so many signatures take in a worker; what a request costs besides is taken off.
async fn signing(url: &str, count: u32) -> Result<Duration> {
    let ask = async |count: u32| {
        let start = Instant::now();
        reqwest::get(format!("{url}?count={count}"))
            .await?
            .error_for_status()?
            .text()
            .await?;
        anyhow::Ok(start.elapsed())
    };
    let nothing = ask(0).await?;
    Ok(ask(count).await?.saturating_sub(nothing))
}

/// The signer in the runtime, beside aws4fetch; the best round of each counts, as for the native one.
pub async fn presign(stack: &Stack) -> Result<()> {
    let worker = stack
        .companion("tests/benches/presign/wrangler.toml")
        .await?;
    let sides = [("keepsake", 20_000), ("aws4fetch", 2_000)];
    let mut signatures = Vec::new();
    for (side, _) in sides {
        let url = reqwest::get(format!("{}/{side}?count=1", worker.url))
            .await?
            .text()
            .await?;
        let signature = url
            .split("X-Amz-Signature=")
            .nth(1)
            .context("no signature")?;
        signatures.push(signature.split('&').next().map(str::to_owned));
    }
    ensure!(signatures[0] == signatures[1], "not the same request");
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for ((side, count), best) in sides.iter().zip(&mut best) {
            let took = signing(&format!("{}/{side}", worker.url), *count).await?;
            *best = took.div_f64(f64::from(*count)).min(*best);
        }
    }
    let [ours, theirs] = best.map(|time| time.as_secs_f64() * 1e6);
    println!("\na presigned PUT with five signed headers in workerd, best of {ROUNDS} rounds");
    println!("  keepsake   {ours:>6.2} µs");
    println!(
        "  aws4fetch  {theirs:>6.2} µs  {:.1} × keepsake's",
        theirs / ours
    );
    Ok(())
}
