//! Every endpoint of the admin port.

use axum::http::Method;
use axum::routing::{MethodRouter, get, post};

use super::AdminState;
use super::auth::Access::{self, Operator, Probe, Scrape};
use super::handlers::{agents, config, deployments, explain, probes, table};

/// One line of the endpoint table.
pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub serve: MethodRouter<AdminState>,
}

#[rustfmt::skip]
pub fn endpoints() -> Vec<Endpoint> {
    let at = |method, path, access, serve| Endpoint { method, path, access, serve };
    let (get_, post_) = (Method::GET, Method::POST);
    vec![
        at(get_.clone(), "/livez",                              Probe,    get(probes::live)),
        at(get_.clone(), "/readyz",                             Probe,    get(probes::ready)),
        at(get_.clone(), "/metrics",                            Scrape,   get(probes::metrics)),
        at(get_.clone(), "/api/v1/config",                      Operator, get(config::show)),
        at(get_.clone(), "/api/v1/table",                       Operator, get(table::show)),
        at(get_.clone(), "/api/v1/agents/{agent}",              Operator, get(agents::show)),
        at(get_.clone(), "/api/v1/agents/{agent}/explain",      Operator, get(explain::explain)),
        at(get_,         "/api/v1/agents/{agent}/deployment",   Operator, get(deployments::show)),
        at(post_,        "/api/v1/agents/{agent}/rollback",     Operator, post(deployments::rollback)),
    ]
}
