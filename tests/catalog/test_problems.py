"""What operators read when an edit is wrong: line, place, value, fix."""

from __future__ import annotations

import pytest

NEW_MODEL = "  new: {{capabilities: [text_input], {}}}\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "fast: {models: [gpt-5-mini,",
            "fast: {models: [gpt5-mini,",
            "tiers.fast.models[0]: unknown model 'gpt5-mini' — did you mean 'gpt-5-mini'?",
        ),
        (
            "{provider: local, id: mini,",
            "{provider: locl, id: mini,",
            "models.gpt-5-mini.deployments[1].provider: unknown provider 'locl' — did you mean 'local'?",
        ),
        (
            "openai: {adapter: openai,",
            "openai: {adapter: opnai,",
            "providers.openai.adapter: unknown adapter 'opnai' — did you mean 'openai'?",
        ),
        (
            "[healthy, cheapest]",
            "[helthy, cheapest]",
            "tiers.fast.policy[0]: unknown policy 'helthy' — did you mean 'healthy'?",
        ),
        (
            "capabilities: [text_input, image_input,",
            "capabilities: [text_input, imgae_input,",
            "models.gpt-5-mini.capabilities[1]: must be one of the known values, not 'imgae_input' "
            "— did you mean 'image_input'?",
        ),
        (
            "display_name: GPT-5 mini",
            "displayname: GPT-5 mini",
            "models.gpt-5-mini.displayname: unknown key 'displayname' — did you mean 'display_name'?",
        ),
        (
            "display_name: GPT-5 mini",
            "display_name: 5",
            "models.gpt-5-mini.display_name: must be text, not 5 — put it in quotes",
        ),
        (
            "unsupported_params: {max_tokens: max_completion_tokens}",
            "unsupported_params: {max_tokens: drop}",
            "models.gpt-5-mini.unsupported_params: max_tokens caps what an answer may cost; say reject, or the name to "
            "send it under",
        ),
        (
            'input: "0.25"',
            'input: "0.2500001"',
            "models.gpt-5-mini.prices[0].usd_per_mtok.input: must have no more than 6 decimal places, not '0.2500001'",
        ),
        (
            'input: "0.25", ',
            "",
            "models.gpt-5-mini.prices[0].usd_per_mtok: 'input' is missing — add it: Uncached prompt",
        ),
        (
            "from: 2025-08-07",
            "from: 7.8.2025",
            "models.gpt-5-mini.prices[0].from: must be a date, as in 2026-11-20, not '7.8.2025'",
        ),
        (
            "input_tokens: 272000",
            "input_tokens: many",
            "models.gpt-5-mini.context.input_tokens: must be a whole number, not 'many'",
        ),
        (
            "temperature: 0.2",
            "temperature: 3",
            "models.gpt-5-mini.params.temperature: must be less than or equal to 2, not 3",
        ),
        (
            "temperature: [0, 1]",
            "temperature: [1, 0]",
            "providers.anthropic.param_ranges.temperature: the lowest value stands first; swap them",
        ),
        (
            "http://127.0.0.1:18000/v1, allow_private: true",
            "http://127.0.0.1:18000/v1",
            "providers.local.base_url: 'http://127.0.0.1:18000/v1' names the private, loopback or "
            "link-local address 127.0.0.1; if that is meant, add allow_private: true",
        ),
        (
            "default: claude-haiku-4-5}",
            "default: claude-haiku}",
            "tiers.fast.default: unknown model 'claude-haiku' — did you mean 'claude-haiku-4-5'?",
        ),
        (
            "{text: claude-haiku-4-5}",
            "{text: claude}",
            "providers.anthropic.defaults.text: unknown model 'claude' — known: claude-haiku-4-5, gpt-5-mini",
        ),
        (
            "gpt-3.5-turbo: fast",
            "gpt-3.5-turbo: fats",
            "aliases.gpt-3.5-turbo: unknown target 'fats' — did you mean 'fast'?",
        ),
        (
            "gpt-3.5-turbo: fast",
            "gpt-5-mini: fast",
            "aliases.gpt-5-mini: is a name of the catalog already (line 10), which it would hide; remove it",
        ),
        (
            "gpt-3.5-turbo: fast",
            "a: fast, b: a",
            "aliases.b: unknown target 'a' — an alias of an alias; name what it stands for",
        ),
        (
            "quality: quick, require",
            "quality: quik, require",
            "tiers.quick.match.quality: unknown quality 'quik' — did you mean 'quick'?",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {policy: [cheapest]}",
            "tiers.quick: needs either models or match; give exactly one of them",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "gpt-5-mini: {models: [claude-haiku-4-5]}",
            "tiers.gpt-5-mini: is also the name of a model (line 10); rename one",
        ),
        (
            "models: [gpt-5-mini, claude-haiku-4-5]",
            "models: [gpt-5-mini, gpt-5-mini, claude-haiku-4-5]",
            "tiers.fast.models[1]: 'gpt-5-mini' stands here twice; remove one",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{step_down: {when: budget_left < 20%, to: fsat}}]}",
            "tiers.quick.policy[0]: unknown tier 'fsat' — did you mean 'fast'?",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{canary: {name: c, models: [claude-haiku-4-5], share: 5%}}]}",
            "tiers.quick.policy[0]: unknown model of the tier 'claude-haiku-4-5'",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{shadow: {name: s, to: gpt-5-minni, share: 5%, "
            "budget: {usd: 1, per: day}}}]}",
            "tiers.quick.policy[0]: unknown model or deployment 'gpt-5-minni' — did you mean 'gpt-5-mini'?",
        ),
        (
            "quick: {match: {quality: quick, require: [image_input]}}",
            "quick: {models: [gpt-5-mini], policy: [{experiment: {name: e, arms: {a: {}, b: {}}}}, "
            "{canary: {name: e, models: [gpt-5-mini], share: 5%}}]}",
            "tiers.quick.policy[1]: a second 'e' in this tier; give it another name",
        ),
        (
            "tiers:\n",
            NEW_MODEL.format("deployments: [{provider: local, id: a}, {provider: local, id: b}]") + "tiers:\n",
            "models.new.deployments[1]: a second deployment 'local/new' — give it a suffix, as in suffix: eu",
        ),
        (
            "tiers:\n",
            NEW_MODEL.format("replacement: new") + "tiers:\n",
            "models.new.replacement: leads in a circle: new -> new; break it",
        ),
        (
            "tiers:\n",
            NEW_MODEL.format("deprecated_on: 2026-05-01, retires_on: 2026-04-01") + "tiers:\n",
            "models.new: retires_on 2026-04-01 lies before deprecated_on 2026-05-01; swap them",
        ),
        (
            "default: claude-haiku-4-5}",
            "on_caller_left: {action: wait}}",
            "tiers.fast.on_caller_left.action: must be one of the known values, not 'wait' — known: cancel, drain",
        ),
        (
            "openai: {adapter: openai,",
            "openai: {adapter: openai, headers: {Authorization: Bearer x},",
            "providers.openai.headers: header 'Authorization' is set by the gateway; remove it "
            "(credentials belong in api_key)",
        ),
        (
            "  openai: {adapter: openai, api_key",
            "  azure: {adapter: azure}\n  openai: {adapter: openai, api_key",
            "providers.azure: 'base_url' is missing — adapter azure has no address of its own; add one",
        ),
    ],
)
def test_a_wrong_edit_names_its_line_and_its_fix(document: str, problems, old: str, new: str, said: str) -> None:
    """Each problem stands at its line, with its place in the document, the value and what to do."""
    assert old in document
    lines = problems(document.replace(old, new, 1))
    edited = document[: document.index(old)].count("\n") + 1
    assert len(lines) == 1
    assert lines[0].startswith(f"catalog.yaml:{edited}: {said}")


def test_of_very_many_problems_the_first_are_told(document: str, problems) -> None:
    """To word all 20,000 would take seconds, and more memory than a refusal may (S24)."""
    many = "".join(f"  m{n}: {{display: x}}\n" for n in range(10_000))
    line = document[: document.index("models:\n")].count("\n") + 2
    said = problems(document.replace("models:\n", f"models:\n{many}", 1))
    assert said[0] == "catalog.yaml: has 20,000 problems; the first 1,000 were looked at"
    assert said[1].startswith(f"catalog.yaml:{line}: models.m0: 'capabilities' is missing")
    assert said[-1].startswith("catalog.yaml: 901 more problems")


def test_all_problems_are_told_at_once(document: str, problems) -> None:
    """Wrong types, unknown keys and names that lead nowhere, in the order of their lines."""
    text = (
        document.replace("adapter: anthropic", "adapter: antropic")
        .replace("display_name: GPT-5 mini", "display_name: [GPT-5]")
        .replace(
            "    quality: quick\n    capabilities: [text_input, text_output",
            "    quality: 4\n    can: [text_input, text_output",
        )
        .replace("models: [gpt-5-mini, claude", "models: [gpt-5-minni, claude")
        .replace("precise: {temperature: 0.0}", "precise: {temprature: 0.0}")
    )
    places = [line.split(": ")[0] + " " + line.split(": ")[1] for line in problems(text)]
    assert places == [
        "catalog.yaml:4 providers.anthropic.adapter",
        "catalog.yaml:11 models.gpt-5-mini.display_name",
        "catalog.yaml:26 models.claude-haiku-4-5",
        "catalog.yaml:27 models.claude-haiku-4-5.quality",
        "catalog.yaml:28 models.claude-haiku-4-5.can",
        "catalog.yaml:37 tiers.fast.models[0]",
        "catalog.yaml:40 presets.precise.temprature",
    ]


@pytest.mark.parametrize("secret", ["sk-proj-abcdefghijklmnop", "hunter2", "env: OPENAI", "file:relative/path"])
def test_a_secret_in_the_document_is_refused_and_not_repeated(document: str, problems, secret: str) -> None:
    """Only references are taken, and the message does not show what stood there (S21)."""
    (line,) = problems(document.replace("api_key: env:OPENAI_API_KEY", f"api_key: '{secret}'"))
    assert line.startswith("catalog.yaml:2: providers.openai.api_key: must be a reference, env:NAME or file:/path")
    assert secret not in line


def test_a_price_row_before_the_one_above_it_is_refused(document: str, problems) -> None:
    """Rows are appended by date, so that what was charged stays as it was."""
    row = "      - {from: 2025-08-06, usd_per_mtok: {input: 1, output: 1}}\n    deployments:\n"
    (line,) = problems(document.replace("    deployments:\n", row, 1))
    assert line == (
        "catalog.yaml:23: models.gpt-5-mini.prices[1].from: '2025-08-06' is not after the row before (2025-08-07); "
        "append rows by date"
    )


@pytest.mark.parametrize(
    "text",
    [
        'providers: {}\nmodels: {}\naliases: {a: "FORGED"}\n',
        'providers: {}\nmodels: {"FORGED": {}}\n',
        'providers: {}\nmodels: {}\n"FORGED": 1\n',
        'providers: {"FORGED": {adapter: openai}}\nmodels: {m: {deployments: [{provider: x, id: m}]}}\n',
        'providers: {}\nmodels: {"FORGED": {replacement: "FORGED"}}\n',
        'providers: {p: {adapter: "FORGED"}}\nmodels: {}\n',
    ],
)
def test_text_from_the_document_cannot_forge_lines(problems, text: str) -> None:
    """Line breaks and terminal codes in names and values do not reach the message as such (S18)."""
    lines = problems(text.replace("FORGED", "x\\n\\u001b[31mcatalog.yaml:1: fine"))
    assert all(line.startswith("catalog.yaml:") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert not any(line == "\x1b[31mcatalog.yaml:1: fine" or line.startswith("catalog.yaml:1: fine") for line in lines)
