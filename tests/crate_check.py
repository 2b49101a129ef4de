"""Checks crates with other people's tools, offline: python crate_check.py CACHE PROFILE=CRATE ...

Prints one JSON line a crate: the profile, the issues that roc-validator finds, and the entities
that the rocrate package reads. In a process of its own, for these tools warn and log.
"""

import io
import json
import logging
import sys
from importlib.resources import files

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from rocrate.rocrate import ROCrate
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester
from urllib3.response import HTTPResponse

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
ACCEPTED = ("application/ld+json, application/json, */*;q=0.1", "application/ld+json", None)


class Here(BaseAdapter):
    """Answers with the context that the rocrate package carries."""

    def send(self, request, **options):
        body = files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
        raw = HTTPResponse(
            body=io.BytesIO(body),
            status=200 if request.url == CONTEXT else 404,
            headers={"Content-Type": "application/ld+json", "Content-Length": str(len(body))},
            preload_content=False,
            request_url=request.url,
        )
        return HTTPAdapter().build_response(request, raw)

    def close(self):
        pass


def main(cache, *checks):
    logging.disable(logging.CRITICAL)
    HttpRequester.initialize_cache(
        cache_path=cache, cache_max_age=-1, offline=False, no_cache=False
    )
    requester = HttpRequester()
    requester.session.mount("https://", Here())
    for accepted in ACCEPTED:
        headers = {"Accept": accepted} if accepted else {}
        requester.get(CONTEXT, headers=headers, allow_redirects=True)
    for check in checks:
        profile, _, crate = check.partition("=")
        result = services.validate(
            services.ValidationSettings(
                rocrate_uri=crate,
                profile_identifier=profile,
                requirement_severity=models.Severity.REQUIRED,
                offline=True,
                cache_path=cache,
            )
        )
        read = [entity.id for entity in ROCrate(crate).get_entities()]
        issues = [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]
        print(json.dumps({"profile": profile, "issues": issues, "read": read}))


if __name__ == "__main__":
    assert requests
    main(*sys.argv[1:])
