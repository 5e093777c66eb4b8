-- What the routers' first choices tell of category, part of the text, token and energy, in bits, with
-- the bias of the sample taken off (`adjusted`) and over the label's entropy (`normalized`).
CREATE OR REPLACE MACRO anchor_specialization(run VARCHAR) AS TABLE
SELECT r.layer, r.router, r.label, r.information, r.expected, r.adjusted, r.normalized, r.p
FROM routing_information AS r
WHERE r.run_id = run
ORDER BY r.layer, r.router, r.label;
