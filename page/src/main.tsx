// Where the page begins.

import { render } from "preact";
import { App } from "./app";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/views.css";
import "./styles/operator.css";
import "./styles/dashboard.css";

const root = document.getElementById("page");
if (root) render(<App />, root);
