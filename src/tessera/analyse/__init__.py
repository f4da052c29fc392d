"""From global labels to measured objects: tables, counts, shapes and surfaces."""
