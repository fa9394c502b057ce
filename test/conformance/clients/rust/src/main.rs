//! The AWS SDK for Rust: the IMDS providers in default settings. Commands on stdin, an answer in JSON on stdout for each.
use aws_config::imds::{credentials::ImdsCredentialsProvider, region::ImdsRegionProvider};
use aws_config::BehaviorVersion;
use aws_credential_types::provider::{error::CredentialsError, ProvideCredentials};
use std::io::{stdin, BufRead};

fn say(pairs: &[(&str, &str)]) {
    let text = |s: &str| s.replace(['"', '\\', '\n', '\r', '\t'], "'");
    let fields: Vec<String> = pairs.iter().map(|(k, v)| format!("\"{k}\":\"{}\"", text(v))).collect();
    println!("{{{}}}", fields.join(","));
}

fn chain(error: &CredentialsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    say(&[("ready", &format!("aws-config {}", env!("AWS_CONFIG_VERSION")))]);
    let mut held = ImdsCredentialsProvider::builder().build();
    // The cache is a service's client's, not the provider's; what it holds shows in who it is to STS.
    let settings = aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(ImdsCredentialsProvider::builder().build())
        .region("eu-west-1")
        .endpoint_url(std::env::var("STS_ENDPOINT").unwrap_or_default())
        .load()
        .await;
    let service = aws_sdk_sts::Client::new(&settings);
    for line in stdin().lock().lines().map_while(Result::ok) {
        if line == "region" {
            match ImdsRegionProvider::builder().build().region().await {
                Some(region) => say(&[("region", region.as_ref())]),
                None => say(&[("error", "no region")]),
            }
            continue;
        }
        if line == "held" {
            match service.get_caller_identity().send().await {
                Ok(identity) => say(&[("arn", identity.arn().unwrap_or(""))]),
                Err(error) => say(&[("error", &format!("{error:?}"))]),
            }
            continue;
        }
        if line != "again" {
            held = ImdsCredentialsProvider::builder().build();
        }
        match held.provide_credentials().await {
            Ok(keys) => say(&[
                ("accessKeyId", keys.access_key_id()),
                ("secretAccessKey", keys.secret_access_key()),
                ("token", keys.session_token().unwrap_or("")),
            ]),
            Err(error) => say(&[("error", &chain(&error))]),
        }
    }
}
