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
