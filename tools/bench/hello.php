<?php
header("Content-Type: text/plain");
echo "Hello, ", $_GET["name"] ?? "world", ". This page has read its query string, and that is all it does.\n";
