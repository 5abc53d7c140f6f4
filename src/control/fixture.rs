//! Deployments and agents for this room's tests.

use std::sync::Arc;
use std::time::Duration;

use super::model::{AgentIntent, Breach, DeploymentSpec, Intent, OnBreach, Step, Strategy};
use crate::judge::{Figures, GuardSpec, GuardTest, Limit, Metric, Reading, Unit, Verdict};
use crate::routing::conversation::{ConversationSpec, PinPolicy};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};
use crate::routing::spec::{AgentSpec, Attribute, Audience, BucketingSpec, EndpointAddress, ExchangeSpec};
use crate::routing::spec::{Scheme, StreamSpec, VersionSpec};

pub fn step(weight: u32, hold_seconds: Option<u64>) -> Step {
    Step { weight: Weight::new(weight).expect("a share"), hold: hold_seconds.map(Duration::from_secs) }
}

pub fn guard() -> GuardSpec {
    let (limit, window) = (Limit::Rate(0.05), Duration::from_secs(300));
    GuardSpec { metric: Metric::ErrorRate, test: GuardTest::Windowed { limit, window, min_requests: 20 } }
}

/// 1 % for 10 min, 5 % for 30 min, 100 %; baked for an hour.
pub fn a_spec() -> DeploymentSpec {
    DeploymentSpec {
        fingerprint: "first".into(),
        version: VersionId::new("1.5.0"),
        strategy: Strategy::Canary,
        steps: vec![step(1_000, Some(600)), step(5_000, Some(1_800)), step(100_000, None)],
        bake: Duration::from_secs(3_600),
        guards: vec![guard()],
        queries: vec![],
        health: vec![],
        on_breach: OnBreach::Rollback,
        cooldown: Duration::from_secs(600),
        drain_timeout: None,
        audience: Audience::default(),
    }
}

/// `support-bot`: 1.4.2 is stable, 1.5.0 and 1.6.0 wait for their chance.
pub fn an_agent() -> AgentSpec {
    let version = |name: &str, port| {
        let endpoints = vec![EndpointAddress::Http { host: "127.0.0.1".into(), port }];
        (VersionId::new(name), VersionSpec { endpoints })
    };
    AgentSpec {
        id: AgentId::new("support-bot"),
        environment: EnvironmentId::new("production"),
        routes: vec![],
        bucketing: BucketingSpec {
            key: vec![Attribute::Header(http::HeaderName::from_static("x-user-id"))],
            salt: "2026-q1".into(),
            scheme: Scheme::Sha1,
            seed: None,
            json_limit_bytes: 64 << 10,
        },
        versions: [version("1.4.2", 7001), version("1.5.0", 7002), version("1.6.0", 7003)].into(),
        stable: VersionId::new("1.4.2"),
        segments: Default::default(),
        rules: vec![],
        split: None,
        exchange: ExchangeSpec::default(),
        streams: StreamSpec::default(),
        conversations: None,
        rate_limits: vec![],
    }
}

/// The same, with conversations that keep their version.
pub fn an_agent_that_talks() -> AgentSpec {
    let spec = ConversationSpec {
        id: vec![],
        response_id: vec![],
        policy: PinPolicy::Pinned,
        ttl: Duration::from_secs(86_400),
        evict_on_rollback: true,
        token: None,
    };
    AgentSpec { conversations: Some(spec), ..an_agent() }
}

pub fn intent(deployment: Option<DeploymentSpec>) -> Intent {
    intent_of(an_agent(), deployment)
}

pub fn intent_of(spec: AgentSpec, deployment: Option<DeploymentSpec>) -> Intent {
    let agent = AgentIntent { spec: Arc::new(spec), deployment, health: [].into(), checks: [].into() };
    Intent { config_hash: "cafe".into(), agents: vec![agent], prometheus: None }
}

pub fn a_breach() -> Breach {
    let canary = Figures { requests: 20, bad: 10, estimate: Some(0.5), interval: None };
    let reading = Reading {
        guard: guard(),
        verdict: Verdict::Breach,
        unit: Unit::Share,
        canary,
        stable: None,
        limit: Some(0.05),
        evidence: 1.0,
        bad_to_breach: None,
        forecast: None,
        explanation: "10 of 20 requests failed".into(),
    };
    Breach::Guard { reading: reading.into() }
}
