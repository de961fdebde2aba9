{{/* Name of every object of this release: the release's name, with "berth" in it. */}}
{{- define "berth.name" -}}
{{- ternary .Release.Name (printf "%s-berth" .Release.Name) (contains "berth" .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "berth.selector" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "berth.labels" -}}
{{ include "berth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* Name of the gateway's objects, short enough for the "-admin" of its second Service. */}}
{{- define "berth.gateway.name" -}}
{{- printf "%s-gateway" (include "berth.name" . | trunc 49 | trimSuffix "-") -}}
{{- end -}}

{{/* Not the operator's: its Deployment and Service select by those. */}}
{{- define "berth.gateway.selector" -}}
app.kubernetes.io/name: berth-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "berth.gateway.labels" -}}
{{ include "berth.gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* A value as the text of an environment variable. Numbers of a values file are floating-point: large ones would get an exponent. */}}
{{- define "berth.text" -}}
{{- if kindIs "slice" . }}{{ join "," . | quote }}
{{- else if kindIs "map" . }}{{ toJson . | quote }}
{{- else if and (kindIs "float64" .) (eq (. | int64 | float64) .) }}{{ . | int64 | quote }}
{{- else }}{{ . | toString | quote }}
{{- end }}
{{- end -}}
